//! How things end: the worker itself, answers that take too long, and requests that never become whole.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

mod running;

use std::time::{Duration, Instant};

use running::{Event, KEY, Worker, eventually, long_text};
use serde_json::{Value, json};

const COMPLETIONS: &str = "/v1/completions";
const RUNNING: &str = "vllm:num_requests_running";
const WAITING: &str = "vllm:num_requests_waiting";
/// What the worker may take for last words, and a busy machine for everything.
const GRACE: Duration = Duration::from_secs(5);

fn short_text() -> Value {
    json!({ "prompt": "高血压", "max_tokens": 4, "ignore_eos": true })
}

fn long_answer() -> Value {
    let mut request = long_text();
    request["stream"] = json!(false);
    request
}

fn expect_error(event: &Event, code: &str) {
    assert_eq!(event.name, "error", "{event:?}");
    assert_eq!(event.json()["error"]["code"], code, "{event:?}");
}

#[test]
fn streams_that_are_not_done_when_the_worker_ends_end_with_an_error_event() {
    let worker = Worker::start(&["deadlines.drain_ms=200"]);
    let mut streams: Vec<_> = (0..8).map(|_| worker.stream(COMPLETIONS, &long_text())).collect();
    streams.iter_mut().for_each(|events| drop(events.next().unwrap()));
    let told = Instant::now();
    worker.terminate();
    for events in streams {
        expect_error(&events.last().unwrap(), "server_ending");
    }
    let ended = worker.wait();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert!(told.elapsed() < Duration::from_millis(200) + GRACE, "{:?}", told.elapsed());
    assert!(ended.said.contains("ended") && !ended.said.contains("panicked"), "{}", ended.said);
}

#[test]
fn consultations_that_are_not_done_when_the_worker_ends_end_as_their_protocol_says() {
    let worker = Worker::start(&["deadlines.drain_ms=200", "scheduler.most_running=1"]);
    let mut before = worker.stream(COMPLETIONS, &long_text());
    before.next().unwrap();
    let consult = worker.stream("/v1/consult", &json!({ "question": "感冒了怎么办", "stream": true }));
    let parts = json!([{ "type": "text", "text": "感冒了怎么办" }]);
    let ui = worker.stream("/v1/consult/ui", &json!({ "messages": [{ "role": "user", "parts": parts }] }));
    eventually("both wait", || worker.metric(WAITING) == 2.0);
    worker.terminate();
    expect_error(&consult.last().unwrap(), "server_ending");
    let ui: Vec<Event> = ui.collect();
    let [.., error, done] = &ui[..] else { panic!("{ui:?}") };
    assert_eq!(error.json()["type"], "error", "{ui:?}");
    assert!(error.json()["errorText"].as_str().unwrap().contains("ending"), "{ui:?}");
    assert_eq!(done.data, "[DONE]");
    assert_eq!(worker.wait().status.code(), Some(0));
}

#[test]
fn answers_that_are_not_done_when_the_worker_ends_are_refused() {
    let worker = Worker::start(&["deadlines.drain_ms=200", "scheduler.most_running=1"]);
    let mut connections = [worker.connect(), worker.connect()];
    connections.iter_mut().for_each(|connection| connection.post(COMPLETIONS, &long_answer()));
    eventually("one is written, one waits", || worker.metric(RUNNING) == 1.0 && worker.metric(WAITING) == 1.0);
    worker.terminate();
    for mut connection in connections {
        connection.answer().expect(503, "server_ending");
    }
    assert_eq!(worker.wait().status.code(), Some(0));
}

#[test]
fn an_answer_that_is_done_in_time_is_finished_and_nothing_is_waited_for_behind_it() {
    let worker = Worker::start(&["deadlines.drain_ms=60000"]);
    let mut request = long_text();
    request["max_tokens"] = json!(300);
    let mut events = worker.stream(COMPLETIONS, &request);
    events.next().unwrap();
    let mut idle = worker.connect();
    idle.post(COMPLETIONS, &short_text());
    assert_eq!(idle.answer().status, 200);
    worker.terminate();
    assert_eq!(events.last().unwrap().data, "[DONE]");
    let finished = Instant::now();
    let ended = worker.wait();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert!(finished.elapsed() < GRACE, "{:?}", finished.elapsed());
    assert_eq!(idle.read_to_end(), "");
}

#[test]
fn while_answers_are_finished_new_work_is_refused_and_probes_are_told() {
    let worker = Worker::start(&["deadlines.drain_ms=60000"]);
    let mut kept = worker.connect();
    kept.post(COMPLETIONS, &short_text());
    assert_eq!(kept.answer().status, 200);
    let mut request = long_text();
    request["max_tokens"] = json!(1000);
    let mut streams: Vec<_> = (0..4).map(|_| worker.stream(COMPLETIONS, &request)).collect();
    streams.iter_mut().for_each(|events| drop(events.next().unwrap()));
    worker.terminate();
    eventually("probes are told", || worker.get("/health/ready").status == 503);
    assert_eq!(worker.get("/health/ready").json()["status"], "draining");
    assert_eq!(worker.get("/health/live").status, 200);
    kept.post(COMPLETIONS, &short_text());
    let refused = kept.answer();
    refused.expect(503, "server_ending");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let question = json!({ "question": "感冒了怎么办" });
    worker.post("/v1/consult", &question).expect(503, "server_ending");
    worker.post("/v1/retrieve", &question).expect(503, "server_ending");
    worker.post("/v1/embeddings", &json!({ "input": "感冒" })).expect(503, "server_ending");
    assert_eq!(worker.metric(RUNNING), 4.0, "the answers were done before anything was tried");
    for events in streams {
        assert_eq!(events.last().unwrap().data, "[DONE]");
    }
    assert_eq!(worker.wait().status.code(), Some(0));
}

#[test]
fn a_worker_that_has_nothing_to_do_ends_at_once() {
    let worker = Worker::start(&["deadlines.drain_ms=60000"]);
    let mut idle = worker.connect();
    idle.post(COMPLETIONS, &short_text());
    assert_eq!(idle.answer().status, 200);
    let told = Instant::now();
    worker.terminate();
    assert_eq!(worker.wait().status.code(), Some(0));
    assert!(told.elapsed() < GRACE, "{:?}", told.elapsed());
}

#[test]
fn a_client_that_does_not_go_is_left_behind() {
    let worker = Worker::start(&["deadlines.drain_ms=200"]);
    let mut half = worker.connect();
    half.send("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n");
    let mut streams: Vec<_> = (0..8).map(|_| worker.stream(COMPLETIONS, &long_text())).collect();
    streams.iter_mut().for_each(|events| drop(events.next().unwrap()));
    let told = Instant::now();
    worker.terminate();
    assert_eq!(worker.wait().status.code(), Some(0));
    assert!(told.elapsed() < Duration::from_millis(200) + GRACE, "{:?}", told.elapsed());
}

#[test]
fn a_first_token_that_does_not_come_in_time_is_not_waited_for() {
    let worker = Worker::start(&["deadlines.first_token_ms=300", "scheduler.most_running=1"]);
    let mut before = worker.stream(COMPLETIONS, &long_text());
    before.next().unwrap();
    let question = |stream: bool| json!({ "question": "感冒了怎么办", "stream": stream });
    let whole = |path: &str, request: &Value| worker.post(path, request).expect(504, "deadline_exceeded");
    let streamed = |path: &str, request: &Value| {
        expect_error(&worker.stream(path, request).last().unwrap(), "deadline_exceeded");
    };
    // All at once, so that none finds the text before it done.
    std::thread::scope(|scope| {
        scope.spawn(|| whole(COMPLETIONS, &long_answer()));
        scope.spawn(|| streamed(COMPLETIONS, &long_text()));
        scope.spawn(|| whole("/v1/consult", &question(false)));
        scope.spawn(|| streamed("/v1/consult", &question(true)));
    });
    eventually("their places are free", || worker.metric(WAITING) == 0.0);
    assert_eq!(worker.metric(RUNNING), 1.0, "the text that came first is still written");
}

#[test]
fn a_next_token_that_does_not_come_in_time_is_not_waited_for() {
    let worker = Worker::start(&["deadlines.between_tokens_ms=1"]);
    // So many at once that a step takes longer.
    let streams: Vec<_> = (0..16).map(|_| worker.stream(COMPLETIONS, &long_text())).collect();
    for mut events in streams {
        assert!(events.next().is_some_and(|event| event.name.is_empty()), "no first token");
        expect_error(&events.last().unwrap(), "deadline_exceeded");
    }
    eventually("their places are free", || worker.metric(RUNNING) == 0.0);
}

#[test]
fn an_answer_that_takes_too_long_is_cut_off() {
    let worker = Worker::start(&["deadlines.total_ms=200"]);
    let started = Instant::now();
    let events: Vec<Event> = worker.stream(COMPLETIONS, &long_text()).collect();
    assert!(events.len() > 2, "nothing was written");
    expect_error(events.last().unwrap(), "deadline_exceeded");
    worker.post(COMPLETIONS, &long_answer()).expect(504, "deadline_exceeded");
    assert!(started.elapsed() < GRACE, "{:?}", started.elapsed());
    eventually("their places are free", || worker.metric(RUNNING) == 0.0);
    worker.post(COMPLETIONS, &short_text()).expect_ok();
}

#[test]
fn a_body_that_comes_byte_by_byte_is_not_waited_for() {
    let worker = Worker::start(&["deadlines.request_ms=300"]);
    let mut connection = worker.connect();
    connection.send(&head("application/json", "Content-Length: 1000"));
    let started = Instant::now();
    while connection.try_send(b" ").is_ok() && started.elapsed() < Duration::from_millis(600) {
        std::thread::sleep(Duration::from_millis(20));
    }
    connection.answer().expect(408, "body_timeout");
    assert!(started.elapsed() < GRACE, "{:?}", started.elapsed());
}

#[test]
fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    let worker = Worker::start(&["deadlines.request_ms=300"]);
    let mut connection = worker.connect();
    let started = Instant::now();
    let mut bytes = head("application/json", "Content-Length: 2").into_bytes().into_iter().cycle();
    while connection.try_send(&[bytes.next().unwrap()]).is_ok() {
        std::thread::sleep(Duration::from_millis(20));
        assert!(started.elapsed() < GRACE, "it is still listened to");
    }
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let worker = Worker::start(&["limits.body_bytes=1000"]);
    // Nothing of the body is sent, and nothing of it is waited for.
    let mut connection = worker.connect();
    connection.send(&head("application/json", "Content-Length: 1001"));
    connection.answer().expect(413, "body_too_large");
    // One that does not say how long it is is read up to the limit.
    let mut connection = worker.connect();
    connection.send(&head("application/json", "Transfer-Encoding: chunked"));
    let chunk = format!("100\r\n{}\r\n", " ".repeat(256));
    for _ in 0..4 {
        connection.send(&chunk);
    }
    connection.answer().expect(413, "body_too_large");
    worker.post(COMPLETIONS, &short_text()).expect_ok();
}

#[test]
fn a_body_that_is_not_json_is_refused() {
    let worker = Worker::start(&[]);
    let body = short_text().to_string();
    let length = format!("Content-Length: {}", body.len());
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "application/xml", ""] {
        let mut connection = worker.connect();
        connection.send(&(head(kind, &length) + &body));
        connection.answer().expect(415, "unsupported_media_type");
    }
    for kind in ["application/json", "Application/JSON; charset=utf-8"] {
        let mut connection = worker.connect();
        connection.send(&(head(kind, &length) + &body));
        assert_eq!(connection.answer().status, 200, "{kind}");
    }
    for body in ["", "{", "[]", "null", "{\"prompt\":\"高\"", "\u{feff}{}", "{} {}"] {
        worker.post_text(KEY, COMPLETIONS, body).expect(400, "invalid_json");
    }
}

#[test]
fn a_body_that_breaks_off_leaves_the_worker_alive() {
    let worker = Worker::start(&[]);
    for _ in 0..20 {
        let mut connection = worker.connect();
        connection.send(&head("application/json", "Content-Length: 1000"));
        connection.send("{\"prompt\"");
    }
    worker.post(COMPLETIONS, &short_text()).expect_ok();
    assert!(!worker.said().contains("panicked"), "{}", worker.said());
}

/// The head of a completion's request with the key.
fn head(kind: &str, more: &str) -> String {
    format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Type: {kind}\r\n{more}\r\n\r\n"
    )
}
