//! More clients than there is room for, and clients that leave.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

mod running;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use running::{Answer, KEY, Raw, Worker, eventually, long_text};
use serde_json::{Value, json};

const COMPLETIONS: &str = "/v1/completions";
const RUNNING: &str = "vllm:num_requests_running";
const WAITING: &str = "vllm:num_requests_waiting";
const ABANDONED: &str = "huatuo_texts_abandoned_total";
const FINISHED: &str = "huatuo_texts_finished_total";
const TOKENS: &str = "vllm:generation_tokens_total";

/// Tests that measure run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn short_text(client: usize) -> Value {
    json!({ "prompt": format!("第{client}位患者"), "max_tokens": 16, "ignore_eos": true, "temperature": 0 })
}

/// As many clients at once, each asking until it is answered, when it is told to; gives all answers.
fn ask_until_answered(worker: &Worker, clients: usize) -> Vec<Answer> {
    let pause = |answer: &Answer| Duration::from_secs(answer.header("retry-after").unwrap().parse().unwrap());
    let ask = |client: usize| {
        let mut answers = Vec::new();
        loop {
            answers.push(worker.post(COMPLETIONS, &short_text(client)));
            match answers.last().unwrap() {
                refused if refused.status == 429 => std::thread::sleep(pause(refused)),
                _ => return answers,
            }
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|client| scope.spawn(move || ask(client))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

/// How long `/health/live` takes while something is done, sorted.
fn probing(worker: &Worker, work: impl FnOnce()) -> Vec<Duration> {
    const PAUSE: Duration = Duration::from_millis(5);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let prober = scope.spawn(|| {
            let mut took = Vec::new();
            while !is_done.load(Ordering::Relaxed) {
                let started = Instant::now();
                assert_eq!(worker.raw(&["GET /health/live HTTP/1.1", "Host: localhost"]).status, 200);
                took.push(started.elapsed());
                std::thread::sleep(PAUSE);
            }
            took.sort();
            took
        });
        work();
        is_done.store(true, Ordering::Relaxed);
        prober.join().unwrap()
    })
}

#[test]
fn of_five_hundred_clients_each_is_answered_or_told_when_to_come_back() {
    const CLIENTS: usize = 500;
    let _alone = alone();
    let worker = Worker::start(&["scheduler.most_waiting=64"]);
    let mut answers = Vec::new();
    let took = probing(&worker, || answers = ask_until_answered(&worker, CLIENTS));
    let (served, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(served.len(), CLIENTS);
    assert!(!refused.is_empty(), "the queue was never full");
    for answer in &served {
        assert_eq!(answer.json()["usage"]["completion_tokens"], 16);
    }
    for answer in &refused {
        answer.expect(429, "queue_full");
        assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    }
    let [half, p95, most] = [took.len() / 2, took.len() * 95 / 100, took.len() - 1].map(|at| took[at]);
    println!("{} refused; {} probes: median {half:?}, p95 {p95:?}, most {most:?}", refused.len(), took.len());
    assert!(p95 < Duration::from_millis(50), "{p95:?}");
    // Five hundred threads and the model share the processors with the probe, so a few are late. A connection that the system's
    // queue had no room for would take a second.
    assert!(most < Duration::from_millis(900), "{most:?}");
}

#[test]
fn searches_past_the_limit_are_refused_on_every_route() {
    const CLIENTS: usize = 32;
    let _alone = alone();
    let worker = Worker::start(&["scheduler.most_waiting=2"]);
    let question = "高血压平时饮食要注意什么";
    for (path, request) in [
        ("/v1/retrieve", json!({ "question": question })),
        ("/v1/consult", json!({ "question": question, "references_only": true })),
        ("/v1/embeddings", json!({ "input": vec![question; 16] })),
    ] {
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let ask = || worker.post(path, &request).status;
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{path}: {statuses:?}");
        assert!(statuses.contains(&200) && statuses.contains(&429), "{path}: {statuses:?}");
    }
}

#[test]
fn memory_does_not_grow_with_the_number_of_requests() {
    const CLIENTS: usize = 200;
    let _alone = alone();
    // Little room for keys and values, so that what is kept for later has filled it before it is measured.
    let worker = Worker::start(&["scheduler.kv_bytes=33554432"]);
    (0..2).for_each(|_| drop(ask_until_answered(&worker, CLIENTS)));
    let before = worker.resident_bytes();
    (0..3).for_each(|_| drop(ask_until_answered(&worker, CLIENTS)));
    let after = worker.resident_bytes();
    println!("{before} bytes, three rounds later {after}");
    assert!(after < before + before / 10, "{before} bytes, then {after}");
}

#[test]
fn a_client_that_leaves_in_mid_stream_frees_its_place_at_once() {
    let _alone = alone();
    let worker = Worker::start(&[]);
    let mut events = worker.stream(COMPLETIONS, &long_text());
    (0..3).for_each(|_| drop(events.next().unwrap()));
    assert_eq!(worker.metric(RUNNING), 1.0);
    let written = worker.metric(TOKENS);
    let left = Instant::now();
    drop(events);
    eventually("no text is written", || worker.metric(RUNNING) == 0.0);
    println!("its place was free after {:?}", left.elapsed());
    let after = worker.metric(TOKENS);
    assert!(after - written < 500.0, "{written} tokens before it left, {after} at the end");
    assert_eq!((worker.metric(ABANDONED), worker.metric(FINISHED)), (1.0, 0.0));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(worker.metric(TOKENS), after, "tokens are written for nobody");
}

#[test]
fn a_client_that_leaves_before_its_whole_answer_is_there_frees_its_place() {
    let _alone = alone();
    let worker = Worker::start(&[]);
    let mut request = long_text();
    request["stream"] = json!(false);
    let mut connection = worker.connect();
    connection.post(COMPLETIONS, &request);
    eventually("its text is written", || worker.metric(TOKENS) > 0.0);
    drop(connection);
    eventually("no text is written", || worker.metric(RUNNING) == 0.0);
    assert_eq!((worker.metric(ABANDONED), worker.metric(FINISHED)), (1.0, 0.0));
}

#[test]
fn a_client_that_leaves_the_queue_frees_its_place() {
    let _alone = alone();
    let worker = Worker::start(&["scheduler.most_running=1", "scheduler.most_waiting=1"]);
    let mut first = worker.stream(COMPLETIONS, &long_text());
    first.next().unwrap();
    let consult = json!({ "question": "感冒了怎么办", "stream": true });
    for (path, request) in [(COMPLETIONS, long_text()), (COMPLETIONS, short_text(0)), ("/v1/consult", consult)] {
        let mut connection = worker.connect();
        connection.post(path, &request);
        eventually("it waits", || worker.metric(WAITING) == 1.0);
        worker.post(COMPLETIONS, &short_text(1)).expect(429, "queue_full");
        assert_eq!(worker.get("/health/ready").status, 503);
        drop(connection);
        eventually("nobody waits", || worker.metric(WAITING) == 0.0);
        assert_eq!(worker.get("/health/ready").status, 200);
    }
    assert_eq!(worker.metric(RUNNING), 1.0, "the first text is still written");
}

#[test]
fn a_client_that_leaves_a_consultation_frees_its_place() {
    let _alone = alone();
    let worker = Worker::start(&[]);
    // Others make each token slow enough to leave between two of them.
    let mut others: Vec<_> = (0..24).map(|_| worker.stream(COMPLETIONS, &long_text())).collect();
    others.iter_mut().for_each(|events| drop(events.next().unwrap()));
    let request = json!({ "question": "高血压平时饮食要注意什么", "stream": true });
    let mut events = worker.stream("/v1/consult", &request);
    assert!(events.any(|event| event.name == "text"));
    assert_eq!(worker.metric(RUNNING), 25.0);
    drop(events);
    eventually("only the others' texts are written", || worker.metric(RUNNING) == 24.0);
    assert_eq!((worker.metric(ABANDONED), worker.metric(FINISHED)), (1.0, 0.0));
}

#[test]
fn a_prompt_does_not_wait_for_texts_under_way() {
    let _alone = alone();
    let worker = Worker::start(&[]);
    let mut long = worker.stream(COMPLETIONS, &long_text());
    long.next().unwrap();
    worker.post(COMPLETIONS, &short_text(0)).expect_ok();
    // Not two: who is answered may be counted a moment longer. Not none: the long text was not waited for.
    eventually("the long text alone is written", || worker.metric(RUNNING) == 1.0);
    assert!(long.count() > 10);
}

#[test]
fn connections_past_the_limit_are_closed_until_others_end() {
    let _alone = alone();
    let worker = Worker::start(&["limits.connections=4"]);
    let open = || served(&worker);
    let mut places = Vec::new();
    let mut fill = || {
        eventually("there is a place", || {
            places.extend(open());
            places.len() == 4
        });
        assert!(open().is_none(), "a fifth connection is served");
        places.pop();
    };
    fill();
    fill();
}

/// A connection, if there is a place for it.
fn served(worker: &Worker) -> Option<Raw> {
    let mut connection = worker.connect();
    let sent = connection.try_send(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    (sent.is_ok() && connection.is_answered()).then_some(connection)
}

#[test]
fn a_client_that_takes_no_answer_loses_its_place_whoever_it_is() {
    let _alone = alone();
    let worker = Worker::start(&["limits.connections=1", "deadlines.request_ms=2000"]);
    let answer = worker.get("/openapi.json").body.len();
    for key in [KEY, "no-key"] {
        let mut connection = None;
        eventually("there is a place", || {
            connection = served(&worker);
            connection.is_some()
        });
        let mut connection = connection.unwrap();
        // More than the system keeps for a client: of whole answers, or of errors that have nothing but a head.
        let request = format!("GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n");
        let answer = if key == KEY { answer } else { 400 };
        let requests = request.repeat((32 << 20) / answer);
        let began = Instant::now();
        // It may be cut off while it still asks, and stays open for its part.
        let asking = std::thread::spawn(move || {
            let _ = connection.try_send(requests.as_bytes());
            connection
        });
        eventually("its place is free", || served(&worker).is_some());
        assert!(began.elapsed() > Duration::from_millis(1900), "{:?}", began.elapsed());
        drop(asking.join().unwrap());
    }
}

#[test]
fn texts_that_give_their_memory_to_others_are_the_same_in_the_end() {
    let _alone = alone();
    let text = |worker: &Worker, prompt: &str| {
        let request = json!({ "prompt": prompt, "max_tokens": 600, "ignore_eos": true, "temperature": 0 });
        worker.post(COMPLETIONS, &request).expect_ok()["choices"][0]["text"].clone()
    };
    let prompts = ["高血压", "糖尿病", "缺铁性贫血"];
    let alone = Worker::start(&[]);
    let expected = prompts.map(|prompt| text(&alone, prompt));
    assert_eq!(alone.metric("vllm:num_preemptions_total"), 0.0);
    // Room for one of them and a half, at three kilobytes a token.
    let narrow = Worker::start(&["scheduler.kv_bytes=2800000"]);
    let (mut used, is_done) = (Vec::new(), AtomicBool::new(false));
    let texts = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                used.push(narrow.metric("vllm:kv_cache_usage_perc"));
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let asked = prompts.map(|prompt| scope.spawn(|| text(&narrow, prompt)));
        let texts = asked.map(|asked| asked.join().unwrap());
        is_done.store(true, Ordering::Relaxed);
        watch.join().unwrap();
        texts
    });
    assert_eq!(texts, expected);
    assert!(narrow.metric("vllm:num_preemptions_total") > 0.0);
    assert!(used.iter().all(|share| (0.0..=1.0).contains(share)) && used.iter().any(|share| *share > 0.5), "{used:?}");
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"; // with empty settings
    let _alone = alone();
    let worker = Worker::start(&["deadlines.request_ms=300"]);
    // The beginning of "POST" is that of HTTP/2's preface as well.
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n", PREFACE, "GET /health/live HTTP/1.1\r\nHost: lo"] {
        let mut connection = worker.connect();
        connection.send(beginning);
        let started = Instant::now();
        connection.read_to_end();
        assert!(started.elapsed() < Duration::from_secs(3), "{beginning:?}: {:?}", started.elapsed());
    }
    let mut connection = worker.connect();
    connection.send("GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(connection.answer().status, 200);
    let started = Instant::now();
    connection.read_to_end();
    assert!(started.elapsed() < Duration::from_secs(3), "an idle connection: {:?}", started.elapsed());
}
