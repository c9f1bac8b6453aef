//! A mock static host on a local port that counts requests and can misbehave in one chosen way.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How the server answers.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code)] // each test binary uses some
pub enum Behaviour {
    /// As it should.
    Correct,
    /// Promises the whole file (and a terabyte of it) to a range request, then waits for the client to go away.
    IgnoresRanges,
    /// Sends a 206 for another range than was asked for.
    ShiftsRanges,
    /// Closes the connection in the middle of a body.
    CutsBodies,
    /// Answers everything with this status.
    Fails(u16),
}

/// A running server; its threads end with the process.
pub struct RangeServer {
    /// Base URL without a slash at the end.
    pub url: String,
    requests: Arc<AtomicUsize>,
}

impl RangeServer {
    /// Serves the files from memory.
    pub fn start(files: BTreeMap<String, Vec<u8>>, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (requests, files) = (Arc::new(AtomicUsize::new(0)), Arc::new(files));
        let counter = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::SeqCst);
                let files = files.clone();
                std::thread::spawn(move || drop(answer(stream, &files, behaviour)));
            }
        });
        Self { url, requests }
    }

    /// Requests received so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, files: &BTreeMap<String, Vec<u8>>, behaviour: Behaviour) -> std::io::Result<()> {
    let (name, range) = read_request(&mut stream)?;
    let Some(file) = files.get(&name) else { return send(&mut stream, "404 Not Found", "", b"", 0) };
    let (start, end) = range.unwrap_or((0, file.len()));
    let (start, end) = (start.min(file.len()), end.min(file.len()));
    let body = &file[start..end];
    let content_range = |shift: usize| {
        let last = (end + shift).saturating_sub(1);
        format!("Content-Range: bytes {}-{last}/{}\r\n", start + shift, file.len())
    };
    match (behaviour, range) {
        (Behaviour::Fails(status), _) => send(&mut stream, &format!("{status} Failed"), "", b"", 0),
        (_, None) => send(&mut stream, "200 OK", "", body, body.len()),
        (Behaviour::Correct, _) => send(&mut stream, "206 Partial Content", &content_range(0), body, body.len()),
        (Behaviour::ShiftsRanges, _) => send(&mut stream, "206 Partial Content", &content_range(1), body, body.len()),
        (Behaviour::CutsBodies, _) => {
            send(&mut stream, "206 Partial Content", &content_range(0), &body[..body.len() / 2], body.len())
        }
        (Behaviour::IgnoresRanges, _) => {
            send(&mut stream, "200 OK", "", b"", 1 << 40)?;
            stream.read(&mut [0]).map(drop) // until the client closes: a client that reads the body hangs
        }
    }
}

/// The name asked for, and the range as first byte and one past the last.
fn read_request(stream: &mut TcpStream) -> std::io::Result<(String, Option<(usize, usize)>)> {
    let (mut name, mut range) = (String::new(), None);
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(rest) = line.strip_prefix("GET /") {
            name = rest.split(' ').next().unwrap_or_default().to_owned();
        }
        let lower = line.to_ascii_lowercase();
        if let Some((first, last)) = lower.strip_prefix("range: bytes=").and_then(|rest| rest.split_once('-')) {
            range = Some((first.parse().unwrap(), last.parse::<usize>().unwrap() + 1));
        }
    }
    Ok((name, range))
}

fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8], length: usize) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    stream.flush()
}
