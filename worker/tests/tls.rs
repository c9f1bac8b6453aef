//! The worker ends TLS itself.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

mod running;

use running::{Worker, long_text};
use serde_json::json;

#[test]
fn questions_are_answered_over_tls_and_nothing_else() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, folder) = (made.cert.pem(), tempfile::tempdir().unwrap());
    let [certificate_path, key_path] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&certificate_path, &certificate).unwrap();
    std::fs::write(&key_path, made.signing_key.serialize_pem()).unwrap();
    let setting = format!("tls={{certificate={certificate_path:?},key={key_path:?}}}");
    let worker = Worker::start_tls(&[&setting], &certificate);
    assert!(worker.url("/").starts_with("https://"));
    worker.post("/v1/consult", &json!({ "question": "高血压患者饮食要注意什么？" })).expect_ok();
    assert!(worker.stream("/v1/completions", &long_text()).next().is_some());
    // What is not TLS is hung up on.
    let mut plain = worker.connect();
    plain.send("GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(!plain.read_to_end().contains("HTTP"));
    worker.terminate();
    assert!(worker.wait().status.success());
}

#[test]
fn a_certificate_that_can_not_be_read_is_named() {
    let ended = Worker::end_of(&["tls={certificate=\"/nowhere/certificate.pem\",key=\"/nowhere/key.pem\"}"]);
    assert!(!ended.status.success());
    assert!(ended.said.contains("/nowhere/certificate.pem"), "{}", ended.said);
}
