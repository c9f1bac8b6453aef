//! A server's side of HTTP, as small as tests need it, and a collector of spans.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Reads a request: its head in lower case, and its body; nothing where none comes.
pub fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        bytes.extend(&piece[..read]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        let length: usize = length.parse().unwrap();
        if bytes.len() >= end + 4 + length {
            return Some((head, bytes[end + 4..][..length].to_vec()));
        }
    }
}

/// Takes spans over HTTP.
pub struct Collector {
    /// Where.
    pub address: SocketAddr,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Collector {
    /// Begins to listen.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, bodies) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&bodies);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let Some((head, body)) = read_request(&mut stream) else { continue };
                assert!(head.starts_with("post /v1/traces "), "{head}");
                kept.lock().unwrap().push(body);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            }
        });
        Self { address, bodies }
    }

    /// The setting that sends spans here.
    pub fn setting(&self) -> String {
        format!("traces={{endpoint=\"http://{}\"}}", self.address)
    }

    /// The messages that came, each an OTLP `ExportTraceServiceRequest`.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.bodies.lock().unwrap().clone()
    }
}
