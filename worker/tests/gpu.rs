//! The worker on a graphics processor, or on Mesa's, which computes on this one.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

mod running;

use running::Worker;
use serde_json::{Value, json};

const GPU: &str = "models=[{name=\"huatuo\",device=\"gpu\"}]";

/// What greedy answers to some questions are, asked for at once.
fn answers(worker: &Worker) -> Vec<Value> {
    let questions = ["高血压患者饮食要注意什么？", "缺铁性贫血有哪些症状？", "头痛三天怎么办？"];
    std::thread::scope(|scope| {
        let ask = |question| {
            let request = json!({ "question": question });
            scope.spawn(move || {
                let answer = worker.post("/v1/consult", &request).expect_ok();
                json!([answer["answer"], answer["sentences"], answer["safety"]])
            })
        };
        let asked: Vec<_> = questions.into_iter().map(ask).collect();
        asked.into_iter().map(|answer| answer.join().unwrap()).collect()
    })
}

#[test]
fn several_at_once_get_the_answers_of_the_processor() {
    let (gpu, cpu) = (Worker::start(&[GPU]), Worker::start(&[]));
    assert_eq!(answers(&gpu), answers(&cpu));
    assert_eq!(gpu.metric("huatuo_texts_finished_total"), cpu.metric("huatuo_texts_finished_total"));
}

#[test]
fn who_goes_away_frees_the_place_there_too() {
    let worker = Worker::start(&[GPU]);
    let mut events = worker.stream("/v1/completions", &running::long_text());
    events.next().unwrap();
    drop(events);
    running::eventually("it is counted", || worker.metric("huatuo_texts_abandoned_total") == 1.0);
    running::eventually("its place is free", || worker.metric("vllm:num_requests_running") == 0.0);
}
