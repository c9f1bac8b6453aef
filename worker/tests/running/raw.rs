//! A connection on which a test sends whatever it likes, whenever it likes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use super::{Answer, KEY};

/// A connection; dropping it closes it.
pub struct Raw {
    stream: TcpStream,
    /// Bytes that came behind the last answer.
    rest: Vec<u8>,
}

impl Raw {
    pub fn new(stream: TcpStream, limit: Duration) -> Self {
        stream.set_read_timeout(Some(limit)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, rest: Vec::new() }
    }

    pub fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes());
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// Sends, which fails where the worker has closed the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a whole request with the key; the connection stays open for another one.
    pub fn post(&mut self, path: &str, body: &Value) {
        let body = body.to_string();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }

    /// Reads until these bytes have come.
    pub fn read_until(&mut self, text: &str) {
        while !contains(&self.rest, text.as_bytes()) {
            assert!(self.read_more(), "closed before {text:?}: {}", String::from_utf8_lossy(&self.rest));
        }
    }

    /// Reads until the worker closes the connection; gives what came.
    pub fn read_to_end(&mut self) -> String {
        while self.read_more() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }

    /// Whether anything comes before the connection is closed.
    pub fn is_answered(&mut self) -> bool {
        self.read_more()
    }

    /// One answer with a Content-Length, or up to the end of the connection.
    pub fn answer(&mut self) -> Answer {
        const BLANK: &[u8] = b"\r\n\r\n";
        while !contains(&self.rest, BLANK) {
            assert!(self.read_more(), "closed in the head: {:?}", String::from_utf8_lossy(&self.rest));
        }
        let end = self.rest.windows(BLANK.len()).position(|window| window == BLANK).unwrap() + BLANK.len();
        let head = String::from_utf8(self.rest.drain(..end).collect()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| -> Option<(HeaderName, HeaderValue)> {
            let (name, value) = line.split_once(':')?;
            Some((name.parse().unwrap(), value.trim().parse().unwrap()))
        };
        let headers: HeaderMap = lines.filter_map(header).collect();
        let length = headers.get("content-length").map(|length| length.to_str().unwrap().parse::<usize>().unwrap());
        while length.is_none_or(|length| self.rest.len() < length) && self.read_more() {}
        let length = length.unwrap_or(self.rest.len()).min(self.rest.len());
        let body = String::from_utf8_lossy(&self.rest.drain(..length).collect::<Vec<_>>()).into_owned();
        Answer { status, headers, body }
    }

    /// Reads a piece; false at the end of the connection.
    fn read_more(&mut self) -> bool {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(read) => {
                self.rest.extend(&piece[..read]);
                true
            }
            // Whoever is told to go while it still sends may see the connection reset.
            Err(error) if [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()) => false,
            Err(error) => panic!("{error}; so far: {}", String::from_utf8_lossy(&self.rest)),
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
