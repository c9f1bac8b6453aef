//! A worker that runs for a test: the program itself, as a process, on a port of its own.

#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this one")]

mod collector;
mod http;
mod raw;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "each test file names some of them")]
pub use collector::{Collector, read_request};
#[allow(unused_imports, reason = "each test file names some of them")]
pub use http::{Answer, Event, Events};
pub use raw::Raw;
use serde_json::{Value, json};
use ureq::Agent;

/// The key that the tests' workers accept.
pub const KEY: &str = "the-key-of-these-tests";
/// The one with which they load models.
pub const ADMIN_KEY: &str = "the-operator's-key-of-these-tests";
/// What anything here may take; the first start builds the sample index.
const LIMIT: Duration = Duration::from_secs(120);

const LISTENING: &str = "listening on ";

/// A running worker; it is killed when it is dropped.
pub struct Worker {
    process: Process,
    scheme: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    agent: Agent,
}

/// How a worker ended.
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// All that it printed.
    pub said: String,
}

impl Worker {
    /// Starts one with settings `section.name=value` and waits until it is ready.
    pub fn start(settings: &[&str]) -> Self {
        Self::start_with(settings, http::agent(LIMIT, None))
    }

    /// Starts one that ends TLS itself, and trusts this certificate alone.
    pub fn start_tls(settings: &[&str], certificate: &str) -> Self {
        Self::start_with(settings, http::agent(LIMIT, Some(certificate)))
    }

    /// Starts one that is told nothing at all but, by a variable, a port that is free.
    pub fn start_bare() -> Self {
        Self::until(LISTENING, Process::start_bare(), http::agent(LIMIT, None))
    }

    /// Starts one and waits until probes are answered, not until it is ready.
    pub fn start_loading(settings: &[&str]) -> Self {
        Self::until("starting at ", Process::start(settings), http::agent(LIMIT, None))
    }

    fn start_with(settings: &[&str], agent: Agent) -> Self {
        let worker = Self::until(LISTENING, Process::start(settings), agent);
        eventually("it is ready", || worker.get("/health/ready").status == 200);
        worker
    }

    /// A worker that has said where it is, behind these words.
    fn until(words: &str, mut process: Process, agent: Agent) -> Self {
        let started = Instant::now();
        let (scheme, address) = loop {
            if let Some(place) = process.said.address(words) {
                break place;
            }
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none() && started.elapsed() < LIMIT, "it does not listen: {}", process.said.text());
            std::thread::sleep(Duration::from_millis(5));
        };
        Self { process, scheme, address, agent }
    }

    /// Starts one that is expected to end by itself, and waits for that.
    pub fn end_of(settings: &[&str]) -> Ended {
        Process::start(settings).wait()
    }

    /// A path's URL.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Gets a path with the key.
    pub fn get(&self, path: &str) -> Answer {
        self.get_as(KEY, path)
    }

    /// Gets a path with another key.
    pub fn get_as(&self, key: &str, path: &str) -> Answer {
        let request = self.agent.get(self.url(path)).header("authorization", format!("Bearer {key}"));
        Answer::of(request.call().unwrap())
    }

    /// Posts JSON with the key.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_as(KEY, path, body)
    }

    /// Posts JSON with another key.
    pub fn post_as(&self, key: &str, path: &str, body: &Value) -> Answer {
        self.post_text(key, path, &body.to_string())
    }

    /// Posts what is said to be JSON.
    pub fn post_text(&self, key: &str, path: &str, body: &str) -> Answer {
        Answer::of(self.send(key, path, body))
    }

    /// Posts JSON and gives the events as they come. Dropping them closes the connection.
    pub fn stream(&self, path: &str, body: &Value) -> Events {
        Events::of(self.send(KEY, path, &body.to_string()))
    }

    fn send(&self, key: &str, path: &str, body: &str) -> ureq::http::Response<ureq::Body> {
        let request = self.agent.post(self.url(path)).header("authorization", format!("Bearer {key}"));
        request.content_type("application/json").send(body).unwrap()
    }

    /// A connection on which anything can be sent.
    pub fn connect(&self) -> Raw {
        Raw::new(TcpStream::connect(self.address).unwrap(), LIMIT)
    }

    /// Sends a request head as it stands, without line ends, on a connection of its own.
    pub fn raw(&self, lines: &[&str]) -> Answer {
        let mut connection = self.connect();
        connection.send(&format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n")));
        connection.answer()
    }

    /// The sum of a metric over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Memory that the process really has.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// All that it has printed so far.
    pub fn said(&self) -> String {
        self.process.said.text()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.process.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended.
    pub fn wait(self) -> Ended {
        self.process.wait()
    }
}

/// The program with settings, the tests' key among them. The sample index is kept in a folder of the tests.
struct Process {
    child: Child,
    said: Said,
}

impl Process {
    fn start(settings: &[&str]) -> Self {
        let (key, admin_key) = (format!("api_keys=[\"{KEY}\"]"), format!("admin_keys=[\"{ADMIN_KEY}\"]"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_huatuo-worker"));
        command.args(["--listen", "127.0.0.1:0", "--set", &key, "--set", &admin_key]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        Self::run(command)
    }

    fn start_bare() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_huatuo-worker"));
        command.env("HUATUO_WORKER_LISTEN", "127.0.0.1:0");
        Self::run(command)
    }

    fn run(mut command: Command) -> Self {
        command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null());
        // glibc gives large blocks back as soon as they are free, so that tests see what memory is in use.
        command.env("MALLOC_MMAP_THRESHOLD_", "131072").env("MALLOC_ARENA_MAX", "2");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Said::listen(&mut child);
        Self { child, said }
    }

    fn wait(mut self) -> Ended {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < LIMIT, "it does not end: {}", self.said.text());
            std::thread::sleep(Duration::from_millis(5));
        };
        Ended { status, said: self.said.all() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a worker prints, read as it comes.
struct Said {
    text: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Said {
    fn listen(child: &mut Child) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let reader = |mut from: Box<dyn Read + Send>| {
            let text = Arc::clone(&text);
            std::thread::spawn(move || {
                let mut piece = [0; 4096];
                while let Ok(read @ 1..) = from.read(&mut piece) {
                    text.lock().unwrap().extend(&piece[..read]);
                }
            })
        };
        let (out, error) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let readers = vec![reader(Box::new(out)), reader(Box::new(error))];
        Self { text, readers }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    /// All of it, once the process has ended.
    fn all(&mut self) -> String {
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        self.text()
    }

    /// What stands behind some words.
    fn address(&self, words: &str) -> Option<(&'static str, SocketAddr)> {
        let text = self.text();
        let rest = text.split_once(words)?.1;
        let (scheme, rest) = match rest.split_once("://") {
            Some(("https", rest)) => ("https", rest),
            Some(("http", rest)) => ("http", rest),
            _ => ("http", rest),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && !".:".contains(c))?;
        Some((scheme, rest[..end].parse().ok()?))
    }
}

/// Waits until something holds, which must not take long.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    const SOON: Duration = Duration::from_secs(20);
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < SOON, "not so after {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A request for a streamed text as long as the model's context allows, whatever the model would like to say.
pub fn long_text() -> Value {
    json!({ "prompt": "高血压", "max_tokens": 1900, "ignore_eos": true, "temperature": 0, "stream": true })
}

/// Where the tests' workers keep what they make.
pub fn cache() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("huatuo")
}

/// The sample index, which any worker's start has left; where versions of it lie side by side, the last one.
pub fn sample_index() -> PathBuf {
    drop(Worker::start(&[]));
    let folders = std::fs::read_dir(cache()).unwrap().map(|entry| entry.unwrap().path());
    let is_index = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("sample-index-");
    let modified = |path: &PathBuf| path.metadata().unwrap().modified().unwrap();
    folders.filter(is_index).max_by_key(modified).unwrap()
}

/// A path below the repository's root.
pub fn root(path: &str) -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    root.canonicalize().unwrap().to_string_lossy().into_owned()
}
