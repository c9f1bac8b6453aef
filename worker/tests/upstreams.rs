//! The worker as a gateway: before workers of its own kind, and before servers that stall, break off and talk nonsense.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

mod running;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use running::{ADMIN_KEY, Event, KEY, Worker, eventually, long_text, read_request};
use serde_json::{Value, json};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";
const RUNNING: &str = "vllm:num_requests_running";
/// The variable that holds the upstreams' key, which is the one of all workers here.
const KEY_VARIABLE: &str = "api_key_env=\"HUATUO_TEST_UPSTREAM_KEY\"";

/// Starts a gateway whose model `far` is computed by these.
fn gateway(upstreams: &[SocketAddr], settings: &[&str]) -> Worker {
    // SAFETY: the same value whenever a test sets it, before it starts a process.
    unsafe { std::env::set_var("HUATUO_TEST_UPSTREAM_KEY", KEY) };
    let upstream = |address: &SocketAddr| {
        format!("{{base_url=\"http://{address}\",model_map={{far=\"huatuo\"}},{KEY_VARIABLE},first_byte_ms=3000}}")
    };
    let upstreams: Vec<String> = upstreams.iter().map(upstream).collect();
    let setting = format!("upstreams=[{}]", upstreams.join(","));
    Worker::start(&[&[setting.as_str()], settings].concat())
}

fn short_text() -> Value {
    json!({ "prompt": "高血压", "max_tokens": 8, "ignore_eos": true, "temperature": 0 })
}

/// A server that does the same with every request, and counts them.
struct Fake {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Fake {
    fn new(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, requests) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (counted, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let (counted, answer) = (Arc::clone(&counted), Arc::clone(&answer));
                std::thread::spawn(move || {
                    if read_request(&mut stream).is_some() {
                        counted.fetch_add(1, Ordering::SeqCst);
                        answer(&mut stream);
                    }
                });
            }
        });
        Self { address, requests }
    }

    /// One that answers with these bytes and closes the connection.
    fn saying(bytes: &'static [u8]) -> Self {
        Self::new(move |stream| drop(stream.write_all(bytes)))
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// An event of a stream of either kind.
fn event(text: &str) -> Vec<u8> {
    let choice = json!({ "index": 0, "text": text, "delta": { "content": text } });
    format!("data: {}\n\n", json!({ "choices": [choice] })).into_bytes()
}

/// How a stream ends whose text has ended by itself.
const END: &[u8] = b"data: {\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

fn said(events: impl Iterator<Item = Event>) -> (String, Vec<Event>) {
    let events: Vec<Event> = events.collect();
    let text = |event: &Event| {
        Some(serde_json::from_str::<Value>(&event.data).ok()?["choices"][0]["text"].as_str()?.to_owned())
    };
    (events.iter().filter_map(text).collect(), events)
}

fn expect_last_error(events: impl Iterator<Item = Event>, code: &str) {
    let last = events.last().unwrap();
    assert_eq!(last.name, "error", "{last:?}");
    assert_eq!(last.json()["error"]["code"], code, "{last:?}");
}

#[test]
fn an_upstreams_answers_are_those_of_the_upstream() {
    let far = Worker::start(&[]);
    let near = gateway(&[far.address], &[]);
    let request = |model: &str| {
        let mut request = short_text();
        request["model"] = json!(model);
        request
    };
    let (theirs, ours) =
        (far.post(COMPLETIONS, &short_text()).expect_ok(), near.post(COMPLETIONS, &request("far")).expect_ok());
    assert_eq!(ours["choices"], theirs["choices"]);
    assert_eq!((&ours["model"], &ours["usage"]["completion_tokens"]), (&json!("far"), &json!(8)));
    let mut streamed = request("far");
    streamed["stream"] = json!(true);
    let (text, events) = said(near.stream(COMPLETIONS, &streamed));
    assert_eq!(json!(text), theirs["choices"][0]["text"]);
    assert_eq!(events.last().unwrap().data, "[DONE]");
    let chat = |model: &str| json!({ "model": model, "messages": [{ "role": "user", "content": "你好" }], "max_tokens": 4, "temperature": 1, "seed": -7, "n": 3, "ignore_eos": true });
    let (theirs, ours) = (far.post(CHAT, &chat("huatuo")).expect_ok(), near.post(CHAT, &chat("far")).expect_ok());
    assert_eq!(ours["usage"]["completion_tokens"], 12, "{ours}");
    assert_eq!(ours["choices"], theirs["choices"]);
    near.post(COMPLETIONS, &json!({ "model": "farther", "prompt": "x" })).expect(404, "model_not_found");
    near.post_as(ADMIN_KEY, "/v1/models/far/unload", &json!({})).expect(400, "model_of_upstreams");
    let models = near.get("/v1/models").expect_ok();
    assert_eq!(models["data"][0]["status"], "upstream", "{models}");
}

#[test]
fn a_consultation_keeps_its_references_and_its_safety_before_an_upstream() {
    let far = Worker::start(&[]);
    let near = gateway(&[far.address], &[]);
    let request = json!({ "model": "far", "question": "我爸突然胸口痛，还一直出冷汗，怎么办？", "max_tokens": 24 });
    let answer = near.post("/v1/consult", &request).expect_ok();
    assert!(!answer["references"].as_array().unwrap().is_empty(), "{answer}");
    assert_eq!(answer["safety"]["red_flags"][0]["id"], "acute-coronary-syndrome", "{answer}");
    assert_eq!(answer["usage"]["completion_tokens"], 24, "{answer}");
    let retrieved = far.post("/v1/retrieve", &json!({ "question": request["question"] })).expect_ok();
    assert_eq!(answer["references"][0], retrieved["references"][0]);
}

#[test]
fn another_upstream_answers_where_one_is_not_there() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let far = Worker::start(&[]);
    let near = gateway(&[gone, far.address], &[]);
    for _ in 0..8 {
        near.post(COMPLETIONS, &short_text()).expect_ok();
    }
    // After three failures it is asked no more.
    assert_eq!(near.metric("huatuo_upstream_failures_total"), 3.0);
    assert_eq!(near.metric("huatuo_upstream_shut"), 1.0);
}

#[test]
fn an_upstream_that_is_killed_in_mid_stream_ends_the_stream_with_an_error_and_the_next_request_goes_elsewhere() {
    let (first, second) = (Worker::start(&[]), Worker::start(&[]));
    let near = gateway(&[first.address, second.address], &[]);
    let mut events = near.stream(COMPLETIONS, &long_text());
    events.next().unwrap();
    // The one that runs it is killed, as by kill -9.
    let (victim, other) = if first.metric(RUNNING) == 1.0 { (first, second) } else { (second, first) };
    let killed = Instant::now();
    drop(victim);
    expect_last_error(events, "upstream_failed");
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
    for _ in 0..4 {
        near.post(COMPLETIONS, &short_text()).expect_ok();
    }
    eventually("it has counted them", || other.metric("huatuo_texts_finished_total") == 4.0);
}

#[test]
fn a_client_that_leaves_takes_its_place_at_the_upstream_along() {
    let far = Worker::start(&[]);
    let near = gateway(&[far.address], &[]);
    for (path, request) in [
        (COMPLETIONS, long_text()),
        ("/v1/consult", json!({ "question": "感冒了怎么办", "stream": true, "max_tokens": 1000, "temperature": 2 })),
    ] {
        let before = far.metric("huatuo_texts_abandoned_total") + far.metric("huatuo_texts_finished_total");
        let mut events = near.stream(path, &request);
        // References come before anything is asked of the upstream.
        assert!(events.any(|event| event.name != "references"));
        drop(events);
        let after = || far.metric("huatuo_texts_abandoned_total") + far.metric("huatuo_texts_finished_total");
        eventually(path, || after() == before + 1.0 && far.metric(RUNNING) == 0.0);
    }
}

#[test]
fn an_upstream_that_stalls_ends_by_the_deadline() {
    let fake = Fake::new(|stream| {
        let _ = stream.write_all(STREAM);
        let _ = stream.write_all(b"data: {\"choices\":[{\"text\":\"a\",\"delta\":{\"content\":\"a\"}}]}\n\n");
        std::thread::sleep(Duration::from_secs(30));
    });
    let near = gateway(&[fake.address], &["deadlines.between_tokens_ms=300"]);
    let started = Instant::now();
    let (text, events) = said(near.stream(COMPLETIONS, &long_text()));
    assert_eq!(text, "a");
    expect_last_error(events.into_iter(), "deadline_exceeded");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let consult = json!({ "question": "感冒了怎么办", "stream": true });
    expect_last_error(near.stream("/v1/consult", &consult), "deadline_exceeded");
    assert_eq!(near.metric("huatuo_broken_streams_total"), 2.0);
}

#[test]
fn an_answer_may_take_longer_than_its_first_byte() {
    let fake = Fake::new(|stream| {
        let _ = stream.write_all(STREAM);
        for _ in 0..5 {
            let _ = stream.write_all(&event("a"));
            std::thread::sleep(Duration::from_millis(800));
        }
        let _ = stream.write_all(END);
        std::thread::sleep(Duration::from_secs(30)); // the end is the end, whoever keeps the connection
    });
    let near = gateway(&[fake.address], &[]);
    let started = Instant::now();
    assert_eq!(near.post(COMPLETIONS, &short_text()).expect_ok()["choices"][0]["text"], "aaaaa");
    let (text, events) = said(near.stream(COMPLETIONS, &long_text()));
    assert_eq!((text.as_str(), events.last().unwrap().data.as_str()), ("aaaaa", "[DONE]"));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!((fake.requests(), near.metric("huatuo_upstream_failures_total")), (2, 0.0));
}

#[test]
fn an_upstream_whose_queue_is_long_has_the_first_tokens_deadline() {
    let fake = Fake::new(|stream| {
        let _ = stream.write_all(STREAM);
        for _ in 0..25 {
            let _ = stream.write_all(&event("")); // what many begin with, and go on with while they wait
            let _ = stream.write_all(b": waiting\n\n");
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = stream.write_all(&event("感冒多休息。"));
        let _ = stream.write_all(END);
    });
    let consult = json!({ "question": "感冒了怎么办", "stream": true });
    let patient = gateway(&[fake.address], &["deadlines.between_tokens_ms=1000"]);
    let (text, _) = said(patient.stream(COMPLETIONS, &long_text()));
    assert_eq!(text, "感冒多休息。");
    assert_eq!(patient.stream("/v1/consult", &consult).last().unwrap().name, "done");
    let hasty = gateway(&[fake.address], &["deadlines.first_token_ms=1500"]);
    expect_last_error(hasty.stream(COMPLETIONS, &long_text()), "deadline_exceeded");
    hasty.post(COMPLETIONS, &short_text()).expect(504, "deadline_exceeded");
    assert_eq!(hasty.metric("huatuo_upstream_failures_total"), 2.0);
}

#[test]
fn an_upstream_whose_answers_begin_and_fail_is_shut_off() {
    let consult = json!({ "question": "感冒了怎么办", "stream": true });
    for wait in [Duration::ZERO, Duration::from_secs(30)] {
        let fake = Fake::new(move |stream| {
            let _ = stream.write_all(STREAM);
            let _ = stream.write_all(&event("a"));
            std::thread::sleep(wait);
        });
        let near = gateway(&[fake.address], &["deadlines.between_tokens_ms=300"]);
        assert_eq!(near.stream(COMPLETIONS, &long_text()).last().unwrap().name, "error");
        assert_eq!(near.stream("/v1/consult", &consult).last().unwrap().name, "error");
        assert_ne!(near.post(COMPLETIONS, &short_text()).status, 200);
        eventually("it is shut off", || near.metric("huatuo_upstream_shut") == 1.0);
        near.post(COMPLETIONS, &short_text()).expect(429, "queue_full");
        assert_eq!(fake.requests(), 3);
    }
}

#[test]
fn a_client_that_does_not_read_never_takes_a_broken_stream_for_a_whole_one() {
    let fake = Fake::new(|stream| {
        let _ = stream.write_all(STREAM);
        let text = event(&"a".repeat(1 << 16));
        for _ in 0..400 {
            if stream.write_all(&text).is_err() {
                return;
            }
        }
    });
    let near = gateway(&[fake.address], &["deadlines.total_ms=2000"]);
    let mut connection = near.connect();
    connection.post(COMPLETIONS, &long_text());
    std::thread::sleep(Duration::from_secs(6));
    let received = connection.read_to_end();
    assert!(received.len() > 1 << 16, "{} bytes", received.len());
    // Chunked bodies end with an empty chunk; this one must not.
    assert!(!received.ends_with("\r\n0\r\n\r\n"));
}

#[test]
fn a_whole_answer_that_lacks_a_text_is_none() {
    const BEGINNING: &[u8] = b"data: {\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":\"stop\"}]}\n\n";
    let fake = Fake::new(|stream| {
        let _ = stream.write_all(&[STREAM, BEGINNING, b"data: [DONE]\n\n"].concat());
    });
    let near = gateway(&[fake.address], &[]);
    let request = |n: u64| json!({ "prompt": "高血压", "n": n });
    assert_eq!(near.post(COMPLETIONS, &request(1)).expect_ok()["choices"][0]["text"], "a");
    near.post(COMPLETIONS, &request(2)).expect(502, "upstream_failed");
}

#[test]
fn more_answers_than_there_are_places_for_are_refused() {
    let fake = Fake::new(|stream| {
        let _ = stream.write_all(STREAM);
        for _ in 0..300 {
            if stream.write_all(&event("a")).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let near = gateway(&[fake.address], &["scheduler.most_forwarded=1"]);
    let consult = json!({ "question": "感冒了怎么办" });
    let mut events = near.stream(COMPLETIONS, &long_text());
    events.next().unwrap();
    near.post(COMPLETIONS, &short_text()).expect(429, "queue_full");
    near.post("/v1/consult", &consult).expect(429, "queue_full");
    assert_eq!(near.metric("huatuo_upstream_running"), 1.0);
    drop(events);
    eventually("its place is free", || near.metric("huatuo_upstream_running") == 0.0);
    let mut streamed = consult;
    streamed["stream"] = json!(true);
    let mut events = near.stream("/v1/consult", &streamed);
    events.next().unwrap();
    near.post(COMPLETIONS, &short_text()).expect(429, "queue_full");
}

#[test]
fn an_upstream_that_says_nothing_is_given_up_for_another() {
    let fake = Fake::new(|_| std::thread::sleep(Duration::from_secs(30)));
    let far = Worker::start(&[]);
    let near = gateway(&[fake.address, far.address], &[]);
    let started = Instant::now();
    near.post(COMPLETIONS, &short_text()).expect_ok();
    near.post(COMPLETIONS, &short_text()).expect_ok();
    assert!(fake.requests() >= 1 && started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[test]
fn nonsense_of_an_upstream_is_an_error_and_never_a_hang() {
    for (bytes, code) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n<br/>"[..], "upstream_failed"),
        (b"garbage that is no HTTP\r\n\r\n", "upstream_failed"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n", "upstream_failed"),
        (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", "upstream_failed"),
        (b"", "upstream_failed"),
    ] {
        let fake = Fake::saying(bytes);
        let near = gateway(&[fake.address], &[]);
        near.post(COMPLETIONS, &short_text()).expect(502, code);
        assert_eq!(fake.requests(), 1, "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn an_upstream_that_points_elsewhere_is_not_followed() {
    let elsewhere = Fake::new(|stream| drop(stream.write_all(&[STREAM, &event("a"), END].concat())));
    let address = elsewhere.address;
    let fake = Fake::new(move |stream| {
        let head = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{address}/v1/completions\r\n");
        let _ = stream.write_all(format!("{head}Content-Length: 0\r\n\r\n").as_bytes());
    });
    let near = gateway(&[fake.address], &[]);
    near.post(COMPLETIONS, &short_text()).expect(502, "upstream_failed");
    assert_eq!((fake.requests(), elsewhere.requests()), (1, 0));
}

#[test]
fn a_stream_reaches_the_client_byte_for_byte() {
    const EVENTS: &[u8] =
        "data: {\"choices\":[{\"index\":0,\"text\":\"感冒\"}],  \"x\": 1e2}\n\n: ping\r\n\r\ndata: [DONE]\n\n"
            .as_bytes();
    let fake = Fake::new(|stream| {
        let _ = stream.write_all(STREAM);
        for piece in EVENTS.chunks(7) {
            let _ = stream.write_all(piece);
            std::thread::sleep(Duration::from_millis(5)); // pieces end within events and within characters
        }
    });
    let near = gateway(&[fake.address], &[]);
    assert_eq!(near.post(COMPLETIONS, &long_text()).body.as_bytes(), EVENTS);
}

#[test]
fn a_stream_of_nonsense_or_half_a_stream_ends_with_an_error_event() {
    for body in [&b"data: \xff\xfe\n\n"[..], b"data: {\"choices\":[]}\n\n", b""] {
        let fake = Fake::new(move |stream| {
            let _ = stream.write_all(STREAM);
            let _ = stream.write_all(body);
        });
        let near = gateway(&[fake.address], &[]);
        expect_last_error(near.stream(COMPLETIONS, &long_text()), "upstream_failed");
        let consult = json!({ "question": "感冒了怎么办", "stream": true });
        expect_last_error(near.stream("/v1/consult", &consult), "upstream_failed");
    }
}

#[test]
fn an_upstream_that_has_enough_to_do_is_left_alone_for_as_long_as_it_says() {
    for bytes in [
        &b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
    ] {
        let fake = Fake::saying(bytes);
        let near = gateway(&[fake.address], &[]);
        let answer = near.post(COMPLETIONS, &short_text());
        answer.expect(429, "queue_full");
        assert_eq!(answer.header("retry-after"), Some("7"));
        let far = Worker::start(&[]);
        gateway(&[fake.address, far.address], &[]).post(COMPLETIONS, &short_text()).expect_ok();
    }
}

#[test]
fn what_an_upstream_refuses_is_the_clients_error() {
    let fake = Fake::saying(
        b"HTTP/1.1 422 Unprocessable Entity\r\nContent-Type: application/json\r\nContent-Length: 32\r\n\r\n{\"error\":{\"message\":\"too long\"}}",
    );
    let near = gateway(&[fake.address], &[]);
    let answer = near.post(COMPLETIONS, &short_text());
    answer.expect(400, "upstream_refused");
    assert!(answer.body.contains("too long"), "{answer:?}");
    let answer = near.post("/v1/consult", &json!({ "question": "感冒了怎么办", "seed": -1 }));
    answer.expect(400, "upstream_refused");
    assert!(answer.body.contains("too long"), "{answer:?}");
    assert_eq!(near.metric("huatuo_upstream_failures_total"), 0.0);
}

#[test]
fn what_an_upstream_says_of_a_question_is_told_to_the_client_alone() {
    for status in ["400 Bad Request", "500 Internal Server Error", "200 OK"] {
        let body = json!({ "error": { "message": "no answer to: 张三得了艾滋病吗" } }).to_string();
        let fake = Fake::new(move |stream| {
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat());
        });
        let near = gateway(&[fake.address], &[]);
        let answer = near.post(CHAT, &json!({ "messages": [{ "role": "user", "content": "张三得了艾滋病吗" }] }));
        assert_eq!(answer.body.contains("艾滋病"), status.starts_with("400"), "{answer:?}");
        let emitted = near.get("/metrics").body + &near.said();
        assert!(emitted.contains("/v1/chat/completions") && !emitted.contains("艾滋病"), "{emitted}");
    }
}

#[test]
fn what_breaks_a_limit_reaches_no_upstream() {
    let fake = Fake::saying(b"");
    let near = gateway(&[fake.address], &["limits.prompt_characters=8", "limits.max_tokens=16"]);
    for request in [
        json!({ "prompt": ["高血压", "糖尿病"] }),
        json!({ "prompt": "高血压平时饮食要注意什么" }),
        json!({ "prompt": [1, 2, 3, 4, 5, 6, 7, 8, 9] }),
        json!({ "prompt": "高血压", "max_tokens": 17 }),
        json!({ "prompt": "高血压", "n": 1000 }),
    ] {
        near.post(COMPLETIONS, &request).expect(400, "invalid_value");
    }
    assert_eq!(fake.requests(), 0);
}

#[test]
fn a_requests_own_template_and_unknown_fields_stay_here() {
    let seen = Arc::new(std::sync::Mutex::new(String::new()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, kept) = (listener.local_addr().unwrap(), Arc::clone(&seen));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut piece = [0; 8192];
            let read = stream.read(&mut piece).unwrap_or(0);
            kept.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..read]));
            let _ = stream.write_all(b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let near = gateway(&[address], &[]);
    let request = json!({
        "messages": [{ "role": "user", "name": "x", "content": [{ "type": "text", "text": "你好", "image_url": { "url": "http://x" } }] }],
        "chat_template": "{{ 1 }}", "chat_template_kwargs": {},
        "add_generation_prompt": false, "documents": [], "mm_processor_kwargs": {},
    });
    near.post(CHAT, &request).expect(502, "upstream_failed");
    let seen = seen.lock().unwrap().clone();
    assert!(
        seen.contains("你好") && seen.contains(&format!("Bearer {KEY}").to_lowercase()) || seen.contains(KEY),
        "{seen}"
    );
    for field in ["image_url", "name\"", "chat_template", "add_generation_prompt", "documents", "mm_processor"] {
        assert!(!seen.contains(field), "{seen}");
    }
}
