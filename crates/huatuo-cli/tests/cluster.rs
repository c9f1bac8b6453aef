//! `huatuo index build` past one machine: embedded DataFusion, and a real scheduler with two executors, one of which is killed.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

#[allow(dead_code)] // of what runs the program, other tests need more
mod huatuo;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use huatuo::{failure, huatuo};

/// Rows of a task: several chunks and partitions of few records.
const TASK_ROWS: &str = "120";
const RECORDS: usize = 1500;
const CHUNKS: usize = 13;
const SYMPTOMS: [&str; 8] = ["头痛", "咳嗽", "发热", "失眠", "腹泻", "胸闷", "皮疹", "乏力"];
const ADVICE: [&str; 5] = ["注意休息，多喝温水", "及时到医院就诊", "清淡饮食", "遵医嘱用药", "观察体温变化"];
/// What anything here may take.
const LIMIT: Duration = Duration::from_secs(80);

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_huatuo"));
        Self(command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Kills it as a machine dies: SIGKILL.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn input() -> &'static str {
    static INPUT: LazyLock<String> = LazyLock::new(|| {
        let mut lines = String::new();
        for n in 0..RECORDS {
            let (a, b, c) = (SYMPTOMS[n % 8], SYMPTOMS[n * n / 3 % 8], SYMPTOMS[n / 8 % 8]);
            let advice: Vec<&str> = (0..n % 4 + 1).map(|i| ADVICE[(n / 7 + i * i + n * i) % 5]).collect();
            let (question, answer) = (format!("{a}{b}已经{n}天了，还有{c}，怎么办？"), advice.join("，"));
            writeln!(lines, r#"{{"id":"r{n}","questions":[["{question}"]],"answers":["{answer}。"]}}"#).unwrap();
        }
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster.jsonl");
        std::fs::write(&path, lines).unwrap();
        path.display().to_string()
    });
    &INPUT
}

fn arguments<'a>(out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let place = ["index", "build", "--keep-all", "--task-rows", TASK_ROWS, "--input", input(), "--out"];
    [&place[..], &[out.to_str().unwrap()], more].concat()
}

/// Files of the index that one process builds by itself.
fn expected() -> &'static BTreeMap<String, Vec<u8>> {
    static EXPECTED: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
        let out = folder("cluster-expected");
        build(&out, &[]);
        files(&out)
    });
    &EXPECTED
}

fn build(out: &Path, more: &[&str]) {
    let output = huatuo(&arguments(out, more));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())
    };
    std::fs::read_dir(folder).unwrap().map(read).collect()
}

/// Finished parts of an unfinished build whose names begin so.
fn parts(out: &Path, prefix: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(out.join(".build")) else { return 0 };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(prefix) && !name.ends_with(".tmp")).count()
}

fn wait(what: &str, is_done: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_done() {
        assert!(started.elapsed() < LIMIT, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A scheduler that gives an executor up soon, and its address.
fn scheduler() -> (Process, String) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let process = Process::start(&["cluster", "scheduler", "--bind", &address, "--executor-timeout", "5"]);
    wait("the scheduler", || TcpStream::connect(&address).is_ok());
    (process, format!("df://{address}"))
}

fn executor(scheduler: &str, work_dir: &Path) -> Process {
    let work_dir = work_dir.to_str().unwrap();
    Process::start(&[
        "cluster",
        "executor",
        "--scheduler",
        scheduler,
        "--work-dir",
        work_dir,
        "--concurrent-tasks",
        "1",
    ])
}

#[test]
fn embedded_datafusion_builds_the_same_bytes() {
    let out = folder("cluster-embedded");
    build(&out, &["--datafusion"]);
    assert!(files(&out) == *expected());
}

#[test]
fn an_executor_and_then_the_client_are_killed_and_the_bytes_are_the_same() {
    let expected = expected();
    let (out, work) = (folder("cluster-killed"), folder("cluster-work"));
    let (_scheduler, address) = scheduler();
    let mut first = executor(&address, &work.join("1"));
    let client = || Process::start(&arguments(&out, &["--scheduler", &address]));
    let mut begun = client();
    // Alone, the first has work from now until all chunks are embedded.
    wait("a chunk to be embedded", || parts(&out, "rows-") > 0);
    let second = executor(&address, &work.join("2"));
    wait("some chunks to be embedded", || parts(&out, "rows-") > 2);
    first.kill();
    let embedded = parts(&out, "rows-");
    assert!(embedded < CHUNKS, "the executor was killed after its work");
    wait("the next stages", || parts(&out, "clusters-") > 0);
    begun.kill();
    assert!(out.join(".build").exists(), "the client was killed after its work");
    build(&out, &["--scheduler", &address]);
    drop(second);
    assert!(files(&out) == *expected);
}

#[test]
fn a_cluster_that_is_not_there_is_told_and_what_was_done_goes_on_elsewhere() {
    let out = folder("cluster-absent");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let message = failure(&arguments(&out, &["--scheduler", &format!("df://{address}")]));
    assert!(message.contains("the stage embed failed") && message.contains("again"), "{message}");
    let message = failure(&arguments(&out, &["--scheduler", "localhost:50050"]));
    assert!(message.contains("df://scheduler.example:50050"), "{message}");
    build(&out, &["--datafusion"]);
    assert!(files(&out) == *expected());
}
