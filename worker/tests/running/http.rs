//! Answers and streams of events, as an HTTP client reads them.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, BodyReader};

/// A client that takes errors as answers and keeps no connection. With a certificate in PEM it trusts no other.
pub fn agent(limit: Duration, certificate: Option<&str>) -> Agent {
    let trusted = certificate.map(|pem| Certificate::from_pem(pem.as_bytes()).unwrap());
    let tls = match &trusted {
        Some(certificate) => {
            TlsConfig::builder().root_certs(RootCerts::new_with_certs(std::slice::from_ref(certificate)))
        }
        None => TlsConfig::builder(),
    };
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .max_idle_connections(0)
        .timeout_global(Some(limit));
    config.build().new_agent()
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn of(response: Response<Body>) -> Self {
        let (head, mut body) = response.into_parts();
        Self { status: head.status.as_u16(), headers: head.headers, body: body.read_to_string().unwrap() }
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of an error in the form that OpenAI's clients read; its message is there as well.
    pub fn code(&self) -> String {
        let json = self.json();
        let error = &json["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{self:?}");
        error["code"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body as JSON, of an answer that must be one.
    pub fn expect_ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// Asserts status and code of an error.
    pub fn expect(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{self:?}");
    }
}

/// Server-sent events as they come.
pub struct Events {
    pub headers: HeaderMap,
    lines: BufReader<BodyReader<'static>>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Event {
    /// Empty where it has none.
    pub name: String,
    pub data: String,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Events {
    pub fn of(response: Response<Body>) -> Self {
        assert_eq!(response.status(), 200);
        let (head, body) = response.into_parts();
        Self { headers: head.headers, lines: BufReader::new(body.into_reader()) }
    }
}

impl Iterator for Events {
    type Item = Event;

    /// The next event; none when the connection was closed, in whatever way.
    fn next(&mut self) -> Option<Event> {
        let mut event = Event { name: String::new(), data: String::new() };
        loop {
            let mut line = String::new();
            if !matches!(self.lines.read_line(&mut line), Ok(1..)) {
                return None;
            }
            match line.trim_end_matches(['\r', '\n']).split_once(": ") {
                Some(("event", name)) => name.clone_into(&mut event.name),
                Some(("data", data)) => event.data.push_str(data),
                _ if !event.data.is_empty() => return Some(event),
                _ => {} // a comment that keeps the connection alive
            }
        }
    }
}
