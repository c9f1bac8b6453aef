//! `huatuo index` and `huatuo eval`.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

mod huatuo;

use std::path::{Path, PathBuf};

use huatuo::{failure, huatuo, json, root};

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn build(input: &str, out: &Path) {
    let output = huatuo(&["index", "build", "--input", input, "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_index_is_built_verified_and_searched() {
    let out = folder("index-first-aid");
    build(&root("samples/records/first_aid.jsonl"), &out);
    assert!(huatuo(&["index", "verify", out.to_str().unwrap()]).status.success());
    let found = json(&["index", "search", out.to_str().unwrap(), "被毒蛇咬了怎么办", "--top", "3", "--json"]);
    let results = found["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    assert!(results[0]["answer"].as_str().unwrap().contains('蛇'));
    let statistics = &found["statistics"];
    assert!(statistics["bytes"].as_u64().unwrap() > 0 && statistics["requests"].as_u64().unwrap() >= 3);
    assert!((4..=7).contains(&statistics["trips"].as_u64().unwrap()), "{statistics}");
    assert!(statistics["milliseconds"]["scan"].is_number());
}

#[test]
fn the_same_records_give_the_same_bytes() {
    let (a, b) = (folder("index-a"), folder("index-b"));
    let input = root("samples/records/first_aid.jsonl");
    build(&input, &a);
    build(&input, &b);
    let names = |folder: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&a), names(&b));
    for name in names(&a) {
        assert_eq!(std::fs::read(a.join(&name)).unwrap(), std::fs::read(b.join(&name)).unwrap());
    }
}

#[test]
fn a_flipped_bit_is_found_and_located() {
    let out = folder("index-flipped");
    build(&root("samples/records/first_aid.jsonl"), &out);
    let pack = std::fs::read_dir(&out)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "pack"));
    let pack = pack.unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&pack, bytes).unwrap();
    let message = failure(&["index", "verify", out.to_str().unwrap()]);
    assert!(message.contains(".pack"), "{message}");
}

#[test]
fn malformed_lines_are_reported_and_too_many_stop_the_build() {
    let out = folder("index-malformed");
    let input = Path::new(env!("CARGO_TARGET_TMPDIR")).join("malformed.jsonl");
    let good = std::fs::read_to_string(root("samples/records/first_aid.jsonl")).unwrap();
    std::fs::write(&input, format!("{good}not json\n")).unwrap();
    let arguments = |allowed| {
        [
            "index",
            "build",
            "--input",
            input.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
            "--allow-malformed",
            allowed,
        ]
        .map(str::to_owned)
    };
    let run = |allowed| huatuo(&arguments(allowed).each_ref().map(String::as_str));
    let refused = run("0");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("malformed.jsonl:49"));
    let accepted = run("0.05");
    assert!(accepted.status.success());
    assert!(String::from_utf8_lossy(&accepted.stderr).contains("malformed.jsonl:49"));
}

#[test]
fn a_folder_with_files_is_not_overwritten() {
    let out = folder("index-full");
    std::fs::create_dir_all(&out).unwrap();
    std::fs::write(out.join("precious"), "x").unwrap();
    let input = root("samples/records/first_aid.jsonl");
    let message = failure(&["index", "build", "--input", &input, "--out", out.to_str().unwrap()]);
    assert!(message.contains("not empty"));
    assert!(out.join("precious").exists());
}

#[test]
fn held_out_questions_find_their_own_record() {
    let records = ["consultations", "first_aid", "knowledge_graph_diseases", "knowledge_graph_drugs"]
        .map(|name| root(&format!("samples/records/{name}.jsonl")));
    let queries = root("samples/heldout_questions.jsonl");
    let mut arguments = vec!["eval", "retrieval", "--json", "--queries", &queries, "--records"];
    arguments.extend(records.iter().map(String::as_str));
    let metrics = json(&arguments);
    assert!(metrics["queries"].as_u64().unwrap() >= 200);
    let recall = |method: &str| metrics[method]["recall@1"].as_f64().unwrap();
    println!("{metrics}");
    // The goal is 0.95; docs/BENCHMARKS.md says where the present model stands. This keeps it from getting worse.
    assert!(recall("hybrid") >= 0.92, "{metrics}");
    assert!(recall("hybrid") > recall("bm25") && recall("hybrid") > recall("dense"), "{metrics}");
    for method in ["bm25", "dense", "hybrid"] {
        for metric in ["recall@1", "recall@10", "recall@100", "mrr@10", "ndcg@10"] {
            assert!(metrics[method][metric].is_number(), "{method} {metric}");
        }
    }
}

/// A file that may not grow any more is what a full disk is to a program.
#[cfg(target_os = "linux")]
#[test]
fn a_build_that_runs_out_of_room_says_so_and_goes_on_when_there_is_some() {
    let (out, undisturbed) = (folder("index-out-of-room"), folder("index-with-room"));
    let (input, program) = (root("samples/records/first_aid.jsonl"), env!("CARGO_BIN_EXE_huatuo"));
    let build_within = |kilobytes: &str| {
        let limited = format!("trap '' XFSZ; ulimit -f {kilobytes}; exec \"$@\"");
        std::process::Command::new("bash")
            .args([
                "-c",
                &limited,
                "bash",
                program,
                "index",
                "build",
                "--input",
                &input,
                "--out",
                out.to_str().unwrap(),
            ])
            .current_dir(root(""))
            .output()
            .unwrap()
    };
    let output = build_within("8");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("could not be written") && message.contains("check the disk"), "{message}");
    assert!(!out.join("manifest.json").exists());
    let output = build_within("unlimited");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    build(&input, &undisturbed);
    for entry in std::fs::read_dir(&undisturbed).unwrap() {
        let name = entry.unwrap().file_name();
        assert_eq!(std::fs::read(out.join(&name)).unwrap(), std::fs::read(undisturbed.join(&name)).unwrap());
    }
}
