//! `huatuo ask` with the default models and the sample records.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

mod huatuo;

use huatuo::{failure, json};
use serde_json::Value;

fn ids(answer: &Value) -> Vec<&str> {
    answer["references"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect()
}

#[test]
fn an_answer_has_every_field_of_the_interface() {
    let answer = json(&["ask", "高血压平时饮食要注意什么", "--json"]);
    for sentence in answer["sentences"].as_array().unwrap() {
        assert!(sentence["text"].is_string() && sentence["supported"].is_boolean() && sentence["citations"].is_array());
    }
    for reference in answer["references"].as_array().unwrap() {
        for field in ["id", "question", "answer", "source", "department"] {
            assert!(reference[field].is_string(), "{field}");
        }
        assert!(reference["n"].is_u64() && reference["score"].is_number());
    }
    for field in ["embed", "retrieve", "prefill", "decode"] {
        assert!(answer["timings_ms"][field].as_f64().unwrap() > 0.0, "{field}");
    }
    assert!(answer["tokens"].as_u64().unwrap() > 5);
    assert_eq!(answer["abstained"], false);
    assert!(answer["safety"]["notices"][0].as_str().unwrap().contains("不是诊断"));
    assert_eq!(answer["safety"]["red_flags"].as_array().unwrap().len(), 0);
}

#[test]
fn the_answer_is_grounded_in_the_record_that_was_asked_for() {
    let answer = json(&["ask", "高血压平时饮食要注意什么", "--json"]);
    assert_eq!(ids(&answer)[0], "kg:高血压:diet");
    let sentences = answer["sentences"].as_array().unwrap();
    let supported = sentences.iter().filter(|s| s["supported"] == true).count();
    assert!(supported * 2 > sentences.len(), "{sentences:?}");
}

#[test]
fn the_same_question_gives_the_same_answer() {
    let ask = || json(&["ask", "失眠怎么办", "--json"])["answer"].clone();
    assert_eq!(ask(), ask());
}

#[test]
fn red_flags_are_named() {
    let answer = json(&["ask", "我爸胸口疼，出了一身冷汗", "--json"]);
    assert_eq!(answer["safety"]["red_flags"][0]["id"], "acute-coronary-syndrome");
}

#[test]
fn an_off_topic_question_is_declined() {
    for question in ["怎么修理自行车的链条", "今天股市为什么下跌", "write a sorting algorithm in python"]
    {
        let answer = json(&["ask", question, "--json"]);
        assert_eq!(answer["abstained"], true, "{question}: {:?}", ids(&answer));
        assert_eq!(answer["tokens"], 0);
    }
}

#[test]
fn a_follow_up_is_understood_from_the_history() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let history = folder.join("history.json");
    let turns = r#"[{"role":"patient","text":"糖尿病有哪些症状？"},{"role":"assistant","text":"多饮多尿。"}]"#;
    std::fs::write(&history, turns).unwrap();
    let answer =
        json(&["ask", "它一般怎么治疗呢？", "--history", history.to_str().unwrap(), "--references-only", "--json"]);
    assert_eq!(ids(&answer)[0], "kg:2型糖尿病:treatment");
    assert_eq!(answer["answer"], "");
}

#[test]
fn bad_questions_are_refused_with_a_reason() {
    assert!(failure(&["ask", " \u{1} "]).contains("empty"));
    assert!(failure(&["ask", &"痛".repeat(10_000)]).contains("at most 1000"));
}

#[test]
fn strange_questions_are_answered_or_declined_without_harm() {
    for question in
        ["😷🤒", "<script>alert(1)</script>", "I have a headache, what should I do?", "<|im_end|>", "[9] 感冒怎么办"]
    {
        json(&["ask", question, "--json"]);
    }
}

#[test]
fn missing_files_are_named() {
    assert!(failure(&["ask", "感冒", "--generator", "/nowhere/model.gguf"]).contains("/nowhere/model.gguf"));
    assert!(failure(&["ask", "感冒", "--index", "/nowhere"]).contains("nowhere"));
    assert!(failure(&["ask", "感冒", "--retriever", "/nowhere"]).contains("config.json"));
    assert!(failure(&["ask", "感冒", "--history", "/nowhere.json"]).contains("nowhere.json"));
}

#[test]
fn a_damaged_generator_is_refused() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("damaged-generator");
    std::fs::create_dir_all(&folder).unwrap();
    let model = std::fs::read(huatuo::root("models/generator/model.gguf")).unwrap();
    std::fs::copy(huatuo::root("models/generator/tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    let path = folder.join("model.gguf");
    std::fs::write(&path, &model[..model.len() / 2]).unwrap();
    assert!(failure(&["ask", "感冒", "--generator", path.to_str().unwrap()]).contains("truncated"));
    std::fs::write(&path, b"<html>404</html>").unwrap();
    assert!(failure(&["ask", "感冒", "--generator", path.to_str().unwrap()]).contains("not a GGUF file"));
    std::fs::write(&path, &model).unwrap();
    std::fs::write(folder.join("tokenizer.json"), "{").unwrap();
    assert!(failure(&["ask", "感冒", "--generator", path.to_str().unwrap()]).contains("tokenizer"));
}
