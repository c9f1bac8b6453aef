//! Answers are the core's, whichever way they are asked for and however many ask at once.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

mod running;

use std::ops::ControlFlow;

use base64::Engine as _;
use huatuo_core::{Consultation, Conversation, Event as CoreEvent, Limits, Question, consult};
use huatuo_native::Processor;
use running::{ADMIN_KEY, Event, KEY, Worker, eventually, long_text, root, sample_index};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const CONSULT: &str = "/v1/consult";
const RUNNING: &str = "vllm:num_requests_running";

/// Questions of the samples: ordinary ones, emergencies and ones that nothing is known about.
fn questions(count: usize) -> Vec<String> {
    let lines = std::fs::read_to_string(root("samples/dev_questions.jsonl")).unwrap();
    let question = |line: &str| serde_json::from_str::<Value>(line).unwrap()["question"].as_str().unwrap().to_owned();
    lines.lines().take(count - 1).map(question).chain(["怎么修理自行车的链条".to_owned()]).collect()
}

/// What the core answers in this process, as the command line asks it.
fn expected(index: &str, questions: &[String]) -> Vec<Value> {
    let retriever = huatuo_native::retriever(None, Some(index)).unwrap();
    let answer = |question: &String| {
        // A new generator each time: none of them knows what was asked before.
        let mut generator = huatuo_native::generator(None, Processor::Cpu).unwrap();
        let (question, conversation) = (Question::new(question).unwrap(), Conversation::default());
        let (limits, mut observer) = (Limits::new(|| 0.0), |_: CoreEvent<'_>| ControlFlow::Continue(()));
        let result = consult(&question, &conversation, &retriever, Some(&mut generator), limits, &mut observer);
        told(&pollster::block_on(result).unwrap())
    };
    questions.iter().map(answer).collect()
}

/// What the core's result is in the worker's words.
fn told(result: &Consultation) -> Value {
    let sentences = result.sentences.iter().map(
        |sentence| json!({ "text": sentence.text, "supported": sentence.supported, "citations": sentence.citations }),
    );
    json!({
        "answer": result.answer,
        "sentences": sentences.collect::<Vec<_>>(),
        "references": result.references.iter().map(|reference| &reference.id).collect::<Vec<_>>(),
        "red_flags": result.red_flags.iter().map(|flag| flag.id).collect::<Vec<_>>(),
        "notices": result.notices,
        "abstained": result.abstained,
        "tokens": result.generation.tokens,
    })
}

/// A response of `/v1/consult` without what differs from one time to the next.
fn essence(response: &Value) -> Value {
    let ids = |list: &Value| list.as_array().unwrap().iter().map(|item| item["id"].clone()).collect::<Vec<_>>();
    json!({
        "answer": response["answer"],
        "sentences": response["sentences"],
        "references": ids(&response["references"]),
        "red_flags": ids(&response["safety"]["red_flags"]),
        "notices": response["safety"]["notices"],
        "abstained": response["abstained"],
        "tokens": response["usage"]["completion_tokens"],
    })
}

fn streamed(worker: &Worker, question: &str) -> Vec<Event> {
    worker.stream(CONSULT, &json!({ "question": question, "stream": true })).collect()
}

/// The texts of events, one behind the other.
fn joined(events: &[Event], name: &str, field: &str) -> String {
    let texts = events.iter().filter(|event| event.name == name).map(|event| event.json()[field].clone());
    texts.map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_consultation_is_the_one_of_the_command_line() {
    let index = sample_index().to_string_lossy().into_owned();
    let worker = Worker::start(&[&format!("retrieval.index={index}")]);
    let questions = questions(8);
    for (question, expected) in questions.iter().zip(expected(&index, &questions)) {
        let answer = worker.post(CONSULT, &json!({ "question": question })).expect_ok();
        assert_eq!(essence(&answer), expected, "{question}");
    }
}

#[test]
fn a_streamed_consultation_is_the_whole_one_in_pieces() {
    let worker = Worker::start(&[]);
    for question in questions(8) {
        let whole = worker.post(CONSULT, &json!({ "question": question })).expect_ok();
        let events = streamed(&worker, &question);
        let done = events.last().unwrap();
        assert_eq!((done.name.as_str(), essence(&done.json())), ("done", essence(&whole)), "{question}");
        assert_eq!(joined(&events, "text", "text"), whole["answer"], "{question}");
        let sentences: Vec<Value> =
            events.iter().filter(|event| event.name == "sentence").map(|event| event.json()["text"].clone()).collect();
        let expected: Vec<Value> =
            whole["sentences"].as_array().unwrap().iter().map(|sentence| sentence["text"].clone()).collect();
        assert_eq!(sentences, expected, "{question}");
        let at = |name: &str| events.iter().position(|event| event.name == name);
        let has_flags = !whole["safety"]["red_flags"].as_array().unwrap().is_empty();
        assert_eq!(at("red_flags"), has_flags.then_some(0), "danger signs come first");
        assert_eq!(at("references"), Some(usize::from(has_flags)), "references come before the answer");
        assert!(events.iter().all(|event| event.json()["type"] == event.name.as_str()));
    }
}

#[test]
fn sixteen_at_once_get_the_answers_that_each_gets_alone() {
    let worker = Worker::start(&["scheduler.most_running=8"]);
    let questions = questions(16);
    let ask = |question: &String| essence(&worker.post(CONSULT, &json!({ "question": question })).expect_ok());
    let alone: Vec<Value> = questions.iter().map(ask).collect();
    let together: Vec<Value> = std::thread::scope(|scope| {
        let asking: Vec<_> = questions.iter().map(|question| scope.spawn(move || ask(question))).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    for ((question, alone), together) in questions.iter().zip(alone).zip(together) {
        assert_eq!(alone, together, "{question}");
    }
}

#[test]
fn references_that_a_client_brings_are_answered_from_as_those_that_are_found() {
    let worker = Worker::start(&[]);
    for question in questions(6) {
        let found = worker.post("/v1/retrieve", &json!({ "question": question })).expect_ok();
        let brought = json!({ "question": question, "references": found["references"] });
        let [retrieved, brought] = [json!({ "question": question }), brought]
            .map(|request| essence(&worker.post(CONSULT, &request).expect_ok()));
        assert_eq!(retrieved, brought, "{question}");
        assert_eq!(found["weak"], retrieved["abstained"], "{question}");
    }
}

#[test]
fn a_conversation_completes_an_elliptical_question() {
    let worker = Worker::start(&[]);
    let history = json!([
        { "role": "patient", "text": "糖尿病有哪些症状？" },
        { "role": "assistant", "text": "多饮多尿。" },
    ]);
    let request = json!({ "question": "它一般怎么治疗呢？", "history": history, "references_only": true });
    let answer = worker.post(CONSULT, &request).expect_ok();
    assert_eq!(answer["references"][0]["id"], "kg:2型糖尿病:treatment");
    assert_eq!(answer["answer"], "");
}

#[test]
fn the_ui_stream_is_one_message_with_its_sources() {
    let worker = Worker::start(&[]);
    for question in questions(6) {
        let whole = worker.post(CONSULT, &json!({ "question": question })).expect_ok();
        let parts = json!([{ "type": "text", "text": question }]);
        let messages = json!([{ "id": "1", "role": "user", "parts": parts }]);
        let events = worker.stream("/v1/consult/ui", &json!({ "id": "chat", "messages": messages }));
        assert_eq!(events.headers["x-vercel-ai-ui-message-stream"], "v1");
        let events: Vec<Event> = events.collect();
        let (done, parts) = events.split_last().unwrap();
        assert_eq!(done.data, "[DONE]");
        let parts: Vec<Value> = parts.iter().map(Event::json).collect();
        let kinds: Vec<&str> = parts.iter().map(|part| part["type"].as_str().unwrap()).collect();
        assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("start", "finish"), "{kinds:?}");
        let of = |kind: &str| parts.iter().filter(|part| part["type"] == kind).collect::<Vec<_>>();
        let answer: String = of("text-delta").iter().map(|part| part["delta"].as_str().unwrap()).collect();
        assert_eq!(answer, whole["answer"], "{question}");
        // One text, begun before its pieces and ended behind them, all of one id.
        let place = |kind: &str| kinds.iter().position(|known| *known == kind);
        let last = kinds.iter().rposition(|kind| *kind == "text-delta");
        assert_eq!((of("text-start").len(), of("text-end").len()), (1, 1), "{kinds:?}");
        assert!(place("text-start") < place("text-delta") && last < place("text-end"), "{kinds:?}");
        let texts = parts.iter().filter(|part| part["type"].as_str().unwrap().starts_with("text-"));
        assert!(texts.clone().all(|part| part["id"].is_string() && part["id"] == texts.clone().next().unwrap()["id"]));
        let sources = [of("source-url"), of("source-document")].concat();
        let references = whole["references"].as_array().unwrap();
        assert_eq!(sources.len(), references.len());
        for reference in references {
            let n = reference["n"].to_string();
            let source = sources.iter().find(|source| source["sourceId"] == n.as_str()).unwrap();
            assert_eq!(source["title"], reference["question"]);
        }
        let has_flags = !whole["safety"]["red_flags"].as_array().unwrap().is_empty();
        assert_eq!(place("data-red-flags"), has_flags.then_some(1), "{kinds:?}");
    }
}

#[test]
fn embeddings_in_base64_are_those_in_numbers() {
    let worker = Worker::start(&[]);
    let input = ["高血压", "I have a headache", "😷"];
    let embed = |format: Value| {
        let request = json!({ "input": input, "model": "any", "encoding_format": format });
        worker.post("/v1/embeddings", &request).expect_ok()["data"].clone()
    };
    let (numbers, text) = (embed(json!("float")), embed(json!("base64")));
    assert_eq!(numbers, embed(Value::Null));
    for (at, text_of_one) in input.iter().enumerate() {
        let vector: Vec<f32> = serde_json::from_value(numbers[at]["embedding"].clone()).unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text[at]["embedding"].as_str().unwrap()).unwrap();
        let decoded: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(vector, decoded);
        let length: f32 = vector.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-3, "{length}");
        assert_eq!(numbers[at]["index"], at);
        let alone = worker.post("/v1/embeddings", &json!({ "input": text_of_one })).expect_ok();
        assert_eq!(alone["data"][0]["embedding"], numbers[at]["embedding"], "{text_of_one}");
    }
}

#[test]
fn greedy_completions_of_several_clients_are_those_of_one() {
    let worker = Worker::start(&["scheduler.most_running=4"]);
    let questions = questions(12);
    let ask = |question: &String| {
        let messages = json!([{ "role": "user", "content": question }]);
        let request = json!({ "messages": messages, "temperature": 0, "max_tokens": 48 });
        worker.post(CHAT, &request).expect_ok()["choices"].clone()
    };
    let alone: Vec<Value> = questions.iter().map(ask).collect();
    let together: Vec<Value> = std::thread::scope(|scope| {
        let asking: Vec<_> = questions.iter().map(|question| scope.spawn(move || ask(question))).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
}

#[test]
fn a_streamed_completion_is_the_whole_one_in_pieces() {
    let worker = Worker::start(&[]);
    let request = |stream: bool| {
        let messages = json!([{ "role": "user", "content": "感冒了怎么办" }]);
        let options = if stream { json!({ "include_usage": true }) } else { Value::Null };
        json!({ "messages": messages, "temperature": 0.8, "seed": 7, "n": 3, "max_tokens": 32, "stream": stream, "stream_options": options })
    };
    let whole = worker.post(CHAT, &request(false)).expect_ok();
    let mut events: Vec<Event> = worker.stream(CHAT, &request(true)).collect();
    assert_eq!(events.pop().unwrap().data, "[DONE]");
    let chunks: Vec<Value> = events.iter().map(Event::json).collect();
    for choice in whole["choices"].as_array().unwrap() {
        let choices = chunks.iter().filter_map(|chunk| chunk["choices"].get(0));
        let of_it: Vec<&Value> = choices.filter(|part| part["index"] == choice["index"]).collect();
        assert_eq!(of_it[0]["delta"]["role"], "assistant");
        let content: String = of_it.iter().filter_map(|part| part["delta"]["content"].as_str()).collect();
        assert_eq!(content, choice["message"]["content"]);
        assert_eq!(of_it.last().unwrap()["finish_reason"], choice["finish_reason"]);
    }
    let usage = &chunks.last().unwrap()["usage"];
    assert_eq!(usage["completion_tokens"], whole["usage"]["completion_tokens"]);
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
}

#[test]
fn what_was_read_of_a_text_is_found_again_by_the_same_key_alone() {
    const OTHER_KEY: &str = "another-key-of-these-tests";
    let worker = Worker::start(&[&format!("api_keys=[{KEY:?}, {OTHER_KEY:?}]")]);
    let prompt = "医生您好，我母亲六十五岁，高血压十年，最近早晨起床时常常头晕，";
    let ask = |key: &str, prompt: &str| {
        let request = json!({ "prompt": prompt, "max_tokens": 8, "temperature": 0 });
        let answer = worker.post_as(key, COMPLETIONS, &request).expect_ok();
        let cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        (cached, answer["choices"][0]["text"].clone())
    };
    let (none, first) = ask(KEY, prompt);
    assert_eq!(none, 0);
    let (some, again) = ask(KEY, prompt);
    assert!(some > 8, "{some} tokens were found again");
    assert_eq!(first, again, "what was kept changes nothing");
    let (longer, _) = ask(KEY, &format!("{prompt}怎么办？"));
    assert!(longer > 8, "{longer} tokens of the beginning were found again");
    let (others, answer) = ask(OTHER_KEY, prompt);
    assert_eq!((others, answer), (0, first));
}

#[test]
fn a_second_model_is_loaded_and_let_go_by_name() {
    let path = root("models/generator/model.gguf");
    let models = format!("models=[{{ name = \"first\" }}, {{ name = \"second\", path = {path:?}, preload = false }}]");
    let worker = Worker::start(&[&models]);
    let chat = |model: &str| {
        let messages = json!([{ "role": "user", "content": "感冒了怎么办" }]);
        worker.post(CHAT, &json!({ "model": model, "messages": messages, "temperature": 0, "max_tokens": 16 }))
    };
    let status = || worker.get("/v1/models/second").expect_ok()["status"].clone();
    let first = chat("first").expect_ok();
    chat("second").expect(503, "model_not_loaded");
    worker.post(CONSULT, &json!({ "question": "感冒", "model": "second" })).expect(503, "model_not_loaded");
    assert_eq!(status(), "not_loaded");

    let only_references = json!({ "question": "感冒", "model": "second", "references_only": true });
    assert_eq!(worker.post(CONSULT, &only_references).expect_ok()["model"], "second");

    for path in ["/v1/models/second/load", "/v1/models/first/unload"] {
        worker.post(path, &json!({})).expect(403, "admin_key_needed");
    }
    for _ in 0..2 {
        let loaded = worker.post_as(ADMIN_KEY, "/v1/models/second/load", &json!({})).expect_ok();
        assert_eq!((&loaded["id"], &loaded["status"]), (&json!("second"), &json!("loaded")));
    }
    let second = chat("second").expect_ok();
    assert_eq!(second["model"], "second");
    assert_eq!(second["choices"], first["choices"], "it is the same model");

    // Texts under way are finished, new ones are not begun.
    let mut request = long_text();
    (request["model"], request["max_tokens"]) = (json!("second"), json!(200));
    let mut events = worker.stream(COMPLETIONS, &request);
    events.next().unwrap();
    assert_eq!(worker.metric(RUNNING), 1.0);
    worker.post_as(ADMIN_KEY, "/v1/models/second/unload", &json!({})).expect_ok();
    chat("second").expect(503, "model_not_loaded");
    assert_eq!(status(), "not_loaded");
    assert_eq!(events.last().unwrap().data, "[DONE]");
    assert_eq!(chat("first").expect_ok()["choices"], first["choices"]);
    let names: Vec<Value> =
        worker.get("/v1/models").expect_ok()["data"].as_array().unwrap().iter().map(|m| m["id"].clone()).collect();
    assert_eq!(names, ["first", "second"]);
}

#[test]
fn the_memory_of_a_model_that_was_let_go_is_free() {
    const ROUNDS: u64 = 20;
    let path = root("models/generator/model.gguf");
    let models = format!("models=[{{ name = \"first\" }}, {{ name = \"second\", path = {path:?}, preload = false }}]");
    let worker = Worker::start(&[&models]);
    let round = || {
        worker.post_as(ADMIN_KEY, "/v1/models/second/load", &json!({})).expect_ok();
        let request = json!({ "model": "second", "prompt": "高血压", "max_tokens": 8 });
        worker.post(COMPLETIONS, &request).expect_ok();
        worker.post_as(ADMIN_KEY, "/v1/models/second/unload", &json!({})).expect_ok();
    };
    round();
    let before = worker.resident_bytes();
    (0..ROUNDS).for_each(|_| round());
    // Allocators keep some of what threads had; of twenty models it is a small part.
    let most = before + ROUNDS * std::fs::metadata(&path).unwrap().len() / 4;
    eventually("the models' memory is free", || worker.resident_bytes() < most);
    println!("{before} bytes, {ROUNDS} models later {}", worker.resident_bytes());
}
