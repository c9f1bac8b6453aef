//! Questions are health data: nothing of them is in what the worker prints, counts or traces, unless the operator asked for it.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

mod running;

use running::{Collector, KEY, Worker, eventually};
use serde_json::{Value, json};

/// What nobody else may read.
const SECRET: &str = "我得了梅毒怕别人知道";
/// The same where only ASCII can stand.
const ASCII_SECRET: &str = "Zz-syphilis-zZ";

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const EMBEDDINGS: &str = "/v1/embeddings";
const RETRIEVE: &str = "/v1/retrieve";
const CONSULT: &str = "/v1/consult";
const UI: &str = "/v1/consult/ui";
const ROUTES: [&str; 6] = [CHAT, COMPLETIONS, EMBEDDINGS, RETRIEVE, CONSULT, UI];

#[test]
fn nothing_of_a_question_is_logged_counted_or_traced() {
    nothing_is_told(false);
}

#[test]
fn nothing_of_a_question_is_logged_in_json_either() {
    nothing_is_told(true);
}

#[test]
fn questions_of_consultations_are_logged_where_it_was_asked_for() {
    let worker = Worker::start(&["log_questions=true"]);
    worker.post(CONSULT, &json!({ "question": SECRET, "references_only": true })).expect_ok();
    worker.stream(UI, &ui(SECRET)).for_each(drop);
    worker.post(CHAT, &chat(SECRET)).expect_ok();
    worker.terminate();
    let said = worker.wait().said;
    assert_eq!(said.matches(SECRET).count(), 2, "{said}");
}

#[test]
fn a_plain_request_id_is_logged_and_given_back() {
    let worker = Worker::start(&[]);
    let answer = worker.raw(&["GET /health/live HTTP/1.1", "Host: localhost", "X-Request-Id: from-the-gateway_7"]);
    assert_eq!(answer.header("x-request-id"), Some("from-the-gateway_7"));
    eventually("it is logged", || worker.said().contains("from-the-gateway_7"));
}

#[test]
fn keys_are_never_printed() {
    let worker = Worker::start(&[]);
    worker.get("/v1/models").expect_ok();
    worker.raw(&["GET /v1/models HTTP/1.1", "Host: localhost", &format!("Authorization: Basic {KEY}")]);
    assert!(!worker.get("/metrics").body.contains(KEY));
    worker.terminate();
    let ended = worker.wait();
    assert!(!ended.said.contains(KEY), "{}", ended.said);
}

fn nothing_is_told(log_json: bool) {
    let collector = Collector::start();
    let log = format!("log_json={log_json}");
    let settings = [&log, &collector.setting(), "limits.prompt_characters=2000", "deadlines.drain_ms=500"];
    let worker = Worker::start(&settings);
    ask_everything_that_can_be_answered(&worker);
    ask_what_is_refused(&worker);
    ask_in_all_other_places(&worker);
    leave_while_it_is_answered(&worker);
    let counts = worker.get("/metrics").body;
    assert!(counts.contains("huatuo_http_requests_total"), "{counts}");
    worker.terminate();
    let said = worker.wait().said;
    let spans: String = collector.bodies().iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect();
    // All of it was met, not only what is said at the start.
    for seen in ["200", "400", "401", "403", "404", "413", "415", "invalid_json", CHAT, UI] {
        assert!(said.contains(seen), "{seen} is not in {said}");
    }
    for seen in [CHAT, UI, "generate", "retrieve", "output_tokens", "invalid_json"] {
        assert!(spans.contains(seen), "{seen} is not in {spans}");
    }
    for (place, text) in [("the log", &said), ("the counts", &counts), ("the spans", &spans)] {
        for form in forms_of_the_secret() {
            assert!(!text.contains(&form), "{form} is in {place}: {text}");
        }
    }
}

/// The secret and its parts, as they may be written somewhere.
fn forms_of_the_secret() -> Vec<String> {
    let escaped = |character: char| format!("\\u{:04x}", character as u32);
    let debugged = |character: char| format!("\\u{{{:x}}}", character as u32);
    let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let hexadecimal: String = SECRET.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
    let mut forms: Vec<String> = ["梅毒", "怕别人", "syphilis", "Zz-"].map(str::to_owned).into();
    forms.extend([percent.to_lowercase(), percent, hexadecimal]);
    forms.extend(SECRET.chars().take(1).flat_map(|first| [escaped(first), debugged(first)]));
    forms
}

fn chat(text: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": text }], "max_tokens": 8 })
}

fn ui(text: &str) -> Value {
    json!({ "messages": [{ "role": "user", "parts": [{ "type": "text", "text": text }] }] })
}

/// A request to each route with a text where its question stands.
fn asked(text: &str) -> Vec<(&'static str, Value)> {
    vec![
        (CHAT, chat(text)),
        (COMPLETIONS, json!({ "prompt": text, "max_tokens": 8 })),
        (EMBEDDINGS, json!({ "input": text })),
        (RETRIEVE, json!({ "question": text })),
        (CONSULT, json!({ "question": text })),
        (UI, ui(text)),
    ]
}

fn ask_everything_that_can_be_answered(worker: &Worker) {
    for (path, request) in asked(SECRET) {
        assert_eq!(worker.post(path, &request).status, 200, "{path}");
    }
    for path in [CHAT, COMPLETIONS, CONSULT] {
        let (_, mut request) = asked(SECRET).into_iter().find(|(known, _)| *known == path).unwrap();
        request["stream"] = json!(true);
        worker.stream(path, &request).for_each(drop);
    }
    let history = json!([{ "role": "patient", "text": SECRET }, { "role": "assistant", "text": SECRET }]);
    let reference = json!({ "id": SECRET, "question": SECRET, "answer": SECRET, "source": SECRET, "score": 1.0 });
    worker.post(RETRIEVE, &json!({ "question": SECRET, "history": history })).expect_ok();
    let consult = json!({ "question": SECRET, "history": history, "references": [reference], "stop": SECRET });
    worker.post(CONSULT, &consult).expect_ok();
    let mut chat = chat(SECRET);
    (chat["stop"], chat["user"], chat[SECRET]) = (json!([SECRET]), json!(SECRET), json!(SECRET));
    worker.post(CHAT, &chat).expect_ok();
    worker.post(EMBEDDINGS, &json!({ "input": [SECRET, SECRET], "model": SECRET })).expect_ok();
}

fn ask_what_is_refused(worker: &Worker) {
    let refused = |path: &str, body: &str| {
        let answer = worker.post_text(KEY, path, body);
        assert!((400..500).contains(&answer.status), "{path} {body}: {answer:?}");
    };
    for path in ROUTES {
        for body in [
            SECRET.to_owned(),
            format!("{{\"{SECRET}"),
            format!("{{\"{SECRET}\": }}"),
            format!("\"{SECRET}\""),
            format!("[\"{SECRET}\"]"),
            format!(
                "{{\"messages\":\"{SECRET}\",\"prompt\":{{\"a\":\"{SECRET}\"}},\"question\":[\"{SECRET}\"],\"input\":7}}"
            ),
            format!(
                "{{\"messages\":[{{\"role\":\"{SECRET}\",\"content\":\"{SECRET}\"}}],\"prompt\":7,\"question\":7}}"
            ),
            format!("{{\"messages\":[{{\"role\":\"user\",\"content\":[\"{SECRET}\"]}}]}}"),
            format!("{{\"model\":\"\\\"{SECRET}\\\"\",\"max_tokens\":\"{SECRET}\\\"{SECRET}\"}}"),
        ] {
            refused(path, &body);
        }
    }
    for (path, request) in asked(&SECRET.repeat(1000)) {
        refused(path, &request.to_string());
    }
    for (path, mut request) in asked(SECRET) {
        if path != RETRIEVE && path != EMBEDDINGS {
            request["model"] = json!(SECRET);
            refused(path, &request.to_string());
        }
    }
    for (path, mut request) in asked(SECRET) {
        (request["n"], request["max_tokens"], request["limit"]) = (json!(SECRET), json!(SECRET), json!(SECRET));
        request["dimensions"] = json!(SECRET);
        if path != UI {
            refused(path, &request.to_string());
        }
    }
    let tool = json!([{ "type": "function", "function": { "name": SECRET, "description": SECRET } }]);
    for field in ["tools", "functions", "tool_choice"] {
        let mut request = chat(SECRET);
        request[field] = tool.clone();
        refused(CHAT, &request.to_string());
    }
    let mut request = chat(SECRET);
    request["response_format"] = json!({ "type": SECRET });
    refused(CHAT, &request.to_string());
}

fn ask_in_all_other_places(worker: &Worker) {
    let key = format!("Authorization: Bearer {KEY}");
    let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for place in [
        format!("/v1/models?question={percent}"),
        format!("/v1/models/{percent}"),
        format!("/v1/models/{ASCII_SECRET}"),
        format!("/v1/{percent}?q={ASCII_SECRET}"),
        format!("/health/live?q={ASCII_SECRET}"),
        format!("/{ASCII_SECRET}"),
        format!("http://localhost/{ASCII_SECRET}?q={percent}"),
        format!("http://{ASCII_SECRET}/"),
    ] {
        for method in ["GET", "POST", ASCII_SECRET] {
            worker.raw(&[&format!("{method} {place} HTTP/1.1"), "Host: localhost", &key, "Content-Length: 0"]);
        }
    }
    for header in [
        format!("X-Request-Id: {SECRET}"),
        format!("X-Request-Id: {ASCII_SECRET} and more"),
        format!("X-Request-Id: {ASCII_SECRET}\tx"),
        format!("X-Request-Id: {}", ASCII_SECRET.repeat(10)),
        format!("User-Agent: {SECRET}"),
        format!("Referer: http://localhost/?q={percent}"),
        format!("Origin: https://{ASCII_SECRET}.example"),
        format!("Host: {ASCII_SECRET}.example"),
        format!("Authorization: Bearer {SECRET}"),
        format!("Authorization: {ASCII_SECRET}"),
        format!("Content-Type: text/{ASCII_SECRET}"),
        format!("Cookie: q={percent}"),
        format!("traceparent: {ASCII_SECRET}"),
        format!("tracestate: secret={ASCII_SECRET}"),
        format!("baggage: secret={ASCII_SECRET}"),
        format!("{ASCII_SECRET}: {SECRET}"),
    ] {
        let host = if header.starts_with("Host") { "" } else { "Host: localhost" };
        let key = if header.starts_with("Authorization") { "" } else { &key };
        let lines = ["POST /v1/chat/completions HTTP/1.1", &header, host, key, "Content-Length: 0"];
        worker.raw(&lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>());
    }
    // What is no HTTP at all, and a body that is too large or breaks off.
    for bytes in [
        format!("{SECRET}\r\n\r\n"),
        format!("POST /{SECRET} HTTP/1.1\r\n\r\n"),
        format!("GET / HTTP/{SECRET}\r\n\r\n"),
    ] {
        let mut connection = worker.connect();
        connection.send(&bytes);
        assert!([400, 403].contains(&connection.answer().status));
    }
    for length in [1 << 30, 1000] {
        let kind = "Content-Type: application/json";
        let mut connection = worker.connect();
        connection.send(&format!(
            "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{key}\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{SECRET}"
        ));
    }
}

fn leave_while_it_is_answered(worker: &Worker) {
    let mut request = running::long_text();
    request["prompt"] = json!(SECRET);
    for _ in 0..4 {
        worker.stream(COMPLETIONS, &request).next().unwrap();
    }
    let request = json!({ "question": SECRET, "stream": true });
    worker.stream(CONSULT, &request).next().unwrap();
    // One that is cut off when the worker ends.
    let mut connection = worker.connect();
    connection.post(COMPLETIONS, &running::long_text());
}
