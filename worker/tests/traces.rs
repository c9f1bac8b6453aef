//! Spans as a collector gets them.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

mod running;

use std::io::Write;
use std::net::TcpListener;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message;
use running::{Collector, KEY, Worker, read_request};
use serde_json::json;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn spans(collector: &Collector) -> Vec<Span> {
    let read = |body: Vec<u8>| ExportTraceServiceRequest::decode(body.as_slice()).unwrap().resource_spans;
    let of_resources = collector.bodies().into_iter().flat_map(read);
    of_resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

fn attribute(span: &Span, key: &str) -> Option<Attribute> {
    span.attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value
}

/// A request that belongs to a trace; the answer's status.
fn ask(worker: &Worker, path: &str, body: &serde_json::Value) -> u16 {
    let (body, authorization) = (body.to_string(), format!("Authorization: Bearer {KEY}"));
    let (length, parent) = (format!("Content-Length: {}", body.len()), format!("traceparent: 00-{TRACE}-{PARENT}-01"));
    let line = format!("POST {path} HTTP/1.1");
    let lines = [
        &line,
        "Host: localhost",
        &authorization,
        "Content-Type: application/json",
        &parent,
        "tracestate: a=b",
        &length,
    ];
    let mut connection = worker.connect();
    connection.send(&format!("{}\r\nConnection: close\r\n\r\n{body}", lines.join("\r\n")));
    connection.answer().status
}

#[test]
fn a_request_and_what_it_waits_for_are_spans_of_its_clients_trace() {
    let collector = Collector::start();
    let worker = Worker::start(&[&collector.setting()]);
    let streamed = json!({ "question": "高血压患者饮食要注意什么？", "stream": true });
    assert_eq!(ask(&worker, "/v1/consult", &streamed), 200);
    let text = json!({ "prompt": "高血压", "max_tokens": 4, "ignore_eos": true });
    assert_eq!(ask(&worker, "/v1/completions", &text), 200);
    assert_eq!(ask(&worker, "/v1/consult", &json!({ "question": "" })), 400);
    worker.terminate();
    worker.wait();
    let mut spans = spans(&collector);
    assert!(spans.iter().all(|span| !span.name.contains("health")));
    spans.retain(|span| hexadecimal(&span.trace_id) == TRACE);
    spans.sort_by_key(|span| span.start_time_unix_nano);
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let (consult, text) = ("POST /v1/consult", "POST /v1/completions");
    assert_eq!(names, [consult, "retrieve", "generate", text, "generate", consult]);
    for whole in [0, 3, 5] {
        assert_eq!(hexadecimal(&spans[whole].parent_span_id), PARENT);
        assert_eq!((spans[whole].kind(), spans[whole].trace_state.as_str()), (SpanKind::Server, ""));
    }
    for (whole, part) in [(0, 1), (0, 2), (3, 4)] {
        assert_eq!(spans[part].parent_span_id, spans[whole].span_id);
        // The answer is streamed: its request has not ended before.
        assert!(spans[whole].end_time_unix_nano >= spans[part].end_time_unix_nano);
    }
    assert_eq!(attribute(&spans[4], "gen_ai.usage.output_tokens"), Some(Attribute::IntValue(4)));
    assert_eq!(spans[4].events[0].name, "first token");
    assert_eq!(attribute(&spans[3], "gen_ai.request.model"), Some(Attribute::StringValue("huatuo".to_owned())));
    assert_eq!(attribute(&spans[5], "http.response.status_code"), Some(Attribute::IntValue(400)));
    assert!(attribute(&spans[5], "error.type").is_some());
}

#[test]
fn an_upstream_is_told_which_trace_it_belongs_to() {
    let (collector, listener) = (Collector::start(), TcpListener::bind("127.0.0.1:0").unwrap());
    let upstream =
        format!("upstreams=[{{base_url=\"http://{}\",model_map={{far=\"m\"}}}}]", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (head, _) = read_request(&mut stream).unwrap();
        let head_of_answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close";
        write!(
            stream,
            "{head_of_answer}\r\n\r\ndata: {{\"choices\":[{{\"finish_reason\":\"stop\"}}]}}\n\ndata: [DONE]\n\n"
        )
        .unwrap();
        head
    });
    let worker = Worker::start(&[&collector.setting(), &upstream]);
    assert_eq!(ask(&worker, "/v1/completions", &json!({ "prompt": "高血压", "model": "far" })), 200);
    let head = asked.join().unwrap();
    worker.terminate();
    worker.wait();
    let spans = spans(&collector);
    let call = spans.iter().find(|span| span.name == "upstream").unwrap();
    assert_eq!(call.kind(), SpanKind::Client);
    let told = format!("traceparent: 00-{TRACE}-{}-01", hexadecimal(&call.span_id));
    assert!(head.contains(&told) && !head.contains("tracestate"), "{head}");
}

#[test]
fn a_collector_that_is_not_there_harms_nobody() {
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let worker = Worker::start(&[&format!("traces={{endpoint=\"http://{nowhere}\"}}")]);
    assert_eq!(ask(&worker, "/v1/consult", &json!({ "question": "高血压患者饮食要注意什么？" })), 200);
    worker.terminate();
    assert!(worker.wait().status.success());
}
