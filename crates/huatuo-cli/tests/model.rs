//! `huatuo model` on the tiny checkpoints of the tests.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

mod huatuo;

use huatuo::{failure, huatuo, json, root};

fn scratch(name: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("model");
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name).to_string_lossy().into_owned()
}

fn succeed(arguments: &[&str]) -> (String, String) {
    let output = huatuo(arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{}", text(output.stderr));
    (text(output.stdout), text(output.stderr))
}

#[test]
fn a_checkpoint_is_converted_quantized_and_inspected() {
    let (single, q8) = (scratch("qwen3-f16.gguf"), scratch("qwen3-q8_0.gguf"));
    let (said, _) = succeed(&["model", "convert", &root("tests/golden/families/qwen3"), &single]);
    assert!(said.contains("24 tensors"), "{said}");
    succeed(&["model", "quantize", &single, &q8, "--encoding", "q8_0"]);
    let summary = json(&["model", "inspect", &q8, "--json"]);
    assert_eq!(summary["family"], "qwen3");
    assert_eq!((summary["layers"].as_u64(), summary["head_dim"].as_u64()), (Some(2), Some(16)));
    assert_eq!((summary["vocabulary"].as_u64(), summary["context"].as_u64()), (Some(300), Some(256)));
    assert_eq!(summary["tokenizer"]["model"], "gpt2");
    assert_eq!(summary["tokenizer"]["splitting"], "qwen2");
    assert_eq!(summary["chat_template"], "recognised");
    // Rows of 48 are no whole blocks of 32.
    assert_eq!(summary["encodings"]["F16"]["tensors"], 2);
    assert_eq!(summary["encodings"]["Q8_0"]["tensors"], 13);
    let (text, _) = succeed(&["model", "inspect", &q8]);
    assert!(text.contains("qwen3") && text.contains("Q8_0") && text.contains("recognised"), "{text}");
}

#[test]
fn every_encoding_can_be_asked_for_and_fallbacks_are_named() {
    for encoding in ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q4_K_M"] {
        let out = scratch(&format!("llama-{encoding}.gguf"));
        let folder = root("tests/golden/families/llama");
        let (_, said) = succeed(&["model", "convert", &folder, &out, "--encoding", encoding]);
        assert_eq!(said.contains("blk.0.attn_q.weight: its rows"), encoding.contains("_K"), "{encoding}: {said}");
        succeed(&["model", "inspect", &out]);
    }
    assert!(failure(&["model", "convert", ".", "x.gguf", "--encoding", "Q3_K"]).contains("known encodings are F32"));
}

#[test]
fn failures_name_the_file_and_leave_nothing_behind() {
    let out = scratch("nothing.gguf");
    assert!(failure(&["model", "convert", "/nowhere", &out]).contains("/nowhere"));
    assert!(failure(&["model", "inspect", "/nowhere.gguf"]).contains("/nowhere.gguf"));
    let folder = scratch("damaged");
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let bytes = std::fs::read(root(&format!("tests/golden/families/qwen2/{file}"))).unwrap();
        let kept = if file == "model.safetensors" { bytes.len() - 1 } else { bytes.len() };
        std::fs::write(std::path::Path::new(&folder).join(file), &bytes[..kept]).unwrap();
    }
    let message = failure(&["model", "convert", &folder, &out]);
    assert!(message.contains("model.safetensors: ") && message.contains("at byte"), "{message}");
    assert!(!std::path::Path::new(&out).exists() && !std::path::Path::new(&format!("{out}.partial")).exists());
    let page = scratch("page.gguf");
    std::fs::write(&page, b"<html>404</html>").unwrap();
    assert!(failure(&["model", "quantize", &page, &out, "--encoding", "Q8_0"]).contains("not a GGUF file"));
}
