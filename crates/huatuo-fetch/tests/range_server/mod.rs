//! A mock static host on a local port that counts requests and can misbehave in one chosen way.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How the server answers.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code)] // each test binary uses some
pub enum Behaviour {
    /// As it should.
    Correct,
    /// Correctly, after so many milliseconds.
    Delays(u64),
    /// Promises the whole file (and a terabyte of it) to a range request, then waits for the client to go away.
    IgnoresRanges,
    /// Sends a 206 for another range than was asked for.
    ShiftsRanges,
    /// Compresses ranges, for everyone or for those who accept it.
    Compresses { unasked: bool },
    /// Closes the connection in the middle of a body.
    CutsBodies,
    /// Sends half of a range and then nothing, with the connection open.
    StallsInBodies,
    /// Answers everything with this status.
    Fails(u16),
    /// Answers the first requests with 429 and this `Retry-After`, later ones as it should.
    Busy { times: usize, retry_after: &'static str },
    /// Answers 200 and a page for every name that does not exist.
    AnswersPages,
    /// Answers this status for every name that does not exist.
    Hides(u16),
    /// Sends no header that lets other origins read.
    NoCors,
    /// Lets other origins read the content but not its headers.
    NoExposedHeaders,
    /// Lets the manifest and what is missing be kept for ever, and packs not at all.
    CachesWrongly,
    /// Has one byte less of every file than there should be.
    LostAByte,
}

/// A running server; its threads end with the process.
pub struct RangeServer {
    /// Base URL without a slash at the end.
    pub url: String,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

struct Request {
    name: String,
    /// First byte and one past the last.
    range: Option<(usize, usize)>,
    accepts_gzip: bool,
    origin: bool,
}

impl RangeServer {
    /// Serves the files from memory.
    pub fn start(files: BTreeMap<String, Vec<u8>>, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (counts, files) = (Arc::new(Counts::default()), Arc::new(files));
        let counted = counts.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.connections.fetch_add(1, Ordering::SeqCst);
                let (files, counts) = (files.clone(), counted.clone());
                std::thread::spawn(move || drop(serve(stream, &files, behaviour, &counts)));
            }
        });
        Self { url, counts }
    }

    /// Requests received so far.
    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    #[allow(dead_code)] // each test binary uses some
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }
}

/// Answers one request after another until the client closes the connection or an answer has to.
fn serve(
    mut stream: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    behaviour: Behaviour,
    counts: &Counts,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = read_request(&mut reader)? {
        let earlier = counts.requests.fetch_add(1, Ordering::SeqCst);
        answer(&mut stream, &request, files, behaviour, earlier)?;
    }
    Ok(())
}

fn answer(
    stream: &mut TcpStream,
    request: &Request,
    files: &BTreeMap<String, Vec<u8>>,
    behaviour: Behaviour,
    earlier: usize,
) -> std::io::Result<()> {
    let mut headers = headers(request, behaviour, files.contains_key(&request.name));
    match behaviour {
        Behaviour::Delays(ms) => std::thread::sleep(Duration::from_millis(ms)),
        Behaviour::Fails(status) => return send(stream, &format!("{status} Failed"), &headers, b"", 0),
        Behaviour::Busy { times, retry_after } if earlier < times => {
            headers += &format!("Retry-After: {retry_after}\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
            return send(stream, "429 Too Many Requests", &headers, b"", 0);
        }
        _ => {}
    }
    let Some(file) = files.get(&request.name) else {
        let page = b"<!doctype html>";
        return match behaviour {
            Behaviour::AnswersPages => send(stream, "200 OK", "Content-Type: text/html\r\n", page, page.len()),
            Behaviour::Hides(status) => send(stream, &format!("{status} Hidden"), &headers, b"", 0),
            _ => send(stream, "404 Not Found", &headers, b"", 0),
        };
    };
    let size = file.len() - usize::from(matches!(behaviour, Behaviour::LostAByte) && request.range.is_some());
    let Some((start, end)) = request.range else { return send(stream, "200 OK", &headers, file, file.len()) };
    let (start, end) = (start.min(size), end.min(size));
    if start == end {
        return send(stream, "416 Range Not Satisfiable", &headers, b"", 0);
    }
    let shift = usize::from(matches!(behaviour, Behaviour::ShiftsRanges));
    headers += &format!("Content-Range: bytes {}-{}/{size}\r\n", start + shift, end + shift - 1);
    let (body, half) = (&file[start..end], &file[start..start + (end - start) / 2]);
    let partial = "206 Partial Content";
    match behaviour {
        Behaviour::IgnoresRanges => {
            send(stream, "200 OK", "", b"", 1 << 40)?;
            wait_for_the_client(stream)
        }
        Behaviour::CutsBodies => {
            send(stream, partial, &headers, half, body.len())?;
            stream.shutdown(std::net::Shutdown::Both)
        }
        Behaviour::StallsInBodies => {
            send(stream, partial, &headers, half, body.len())?;
            wait_for_the_client(stream)
        }
        Behaviour::Compresses { unasked } if unasked || request.accepts_gzip => {
            headers += "Content-Encoding: gzip\r\n";
            let reversed: Vec<u8> = body.iter().rev().copied().collect();
            send(stream, partial, &headers, &reversed, reversed.len())
        }
        _ => send(stream, partial, &headers, body, body.len()),
    }
}

/// What static hosts say about caches and other origins.
fn headers(request: &Request, behaviour: Behaviour, exists: bool) -> String {
    let is_pack = request.name.ends_with(".pack");
    let cached = (is_pack && exists) != matches!(behaviour, Behaviour::CachesWrongly);
    let mut headers = String::from("ETag: \"v1\"\r\nCache-Control: ");
    headers += if cached { "public, max-age=31536000, immutable\r\n" } else { "no-cache\r\n" };
    if request.origin && !matches!(behaviour, Behaviour::NoCors) {
        headers += "Access-Control-Allow-Origin: *\r\n";
        if !matches!(behaviour, Behaviour::NoExposedHeaders) {
            headers += "Access-Control-Expose-Headers: ETag, Content-Range\r\n";
        }
    }
    headers
}

/// A client that reads the body to its end hangs here with the server.
fn wait_for_the_client(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read(&mut [0]).map(drop)
}

fn read_request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut request = Request { name: String::new(), range: None, accepts_gzip: false, origin: false };
    for line in reader.lines() {
        let line = line?;
        if line.is_empty() {
            return Ok(Some(request));
        }
        if let Some(rest) = line.strip_prefix("GET /") {
            request.name = rest.split(' ').next().unwrap_or_default().to_owned();
        }
        let lower = line.to_ascii_lowercase();
        if let Some((first, last)) = lower.strip_prefix("range: bytes=").and_then(|rest| rest.split_once('-')) {
            request.range = Some((first.parse().unwrap(), last.parse::<usize>().unwrap() + 1));
        }
        request.accepts_gzip |= lower.starts_with("accept-encoding:") && lower.contains("gzip");
        request.origin |= lower.starts_with("origin:");
    }
    Ok(None)
}

/// Sends a head that promises `length` bytes, and a body.
fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8], length: usize) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all(&[head.as_bytes(), body].concat())?;
    stream.flush()
}
