//! How the worker starts: with nothing but itself, while it loads, and from an index on another host.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

mod running;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use running::{KEY, Worker, cache, read_request, root, sample_index};
use serde_json::json;

#[test]
fn without_arguments_it_serves_what_it_carries_and_leaves_a_key_for_its_user_alone() {
    let worker = Worker::start_bare();
    let file = cache().join(format!("worker-{}.key", worker.address.port()));
    let key = std::fs::read_to_string(&file).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(key.len() == 48 && !worker.said().contains(&key) && worker.said().contains(file.to_str().unwrap()));
    worker.get("/v1/models").expect(401, "invalid_api_key");
    let models = worker.get_as(&key, "/v1/models").expect_ok();
    assert_eq!(models["data"][0]["status"], "loaded", "{models}");
    let answer = worker.post_as(&key, "/v1/consult", &json!({ "question": "高血压平时饮食要注意什么？" })).expect_ok();
    assert!(!answer["references"].as_array().unwrap().is_empty(), "{answer}");
    // The operator's routes, too.
    worker.post_as(&key, "/v1/models/huatuo/unload", &json!({})).expect_ok();
    assert_eq!(worker.get("/health/ready").status, 503, "its model is not loaded");
    assert_eq!(worker.get("/health/live").status, 200);
    worker.post_as(&key, "/v1/models/huatuo/load", &json!({})).expect_ok();
    assert_eq!(worker.get("/health/ready").status, 200);
}

/// The file, the variable and the schema of the manifests are the program's.
#[test]
fn the_manifests_configuration_is_printed_as_it_is_taken_and_without_keys() {
    let manifest = std::fs::read_to_string(root("worker/deploy/kubernetes.yaml")).unwrap();
    let (_, rest) = manifest.split_once("worker.toml: |\n").unwrap();
    let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    ")).map(str::trim_start);
    let file = cache().join("manifest-worker.toml");
    std::fs::create_dir_all(cache()).unwrap();
    std::fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_huatuo-worker"));
    command.args(["--log-questions", "--print-config", "--config"]).arg(&file);
    command.env("HUATUO_WORKER_ALLOWED_HOSTS", "[\"huatuo-worker\", \"10.0.0.7\"]");
    command.env("HUATUO_WORKER_API_KEYS", format!("[{KEY:?}]"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    for part in ["0.0.0.0:8077", "10.0.0.7", "log_questions = true", "kv_bytes = 2147483648"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert!(!printed.contains(KEY), "{printed}");
}

#[test]
fn while_it_loads_probes_are_answered_and_nothing_else_is() {
    // Takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let index = format!("retrieval.index=\"http://{}\"", silent.local_addr().unwrap());
    let worker = Worker::start_loading(&[&index]);
    for (path, status) in [("/health/live", 200), ("/health/ready", 503), ("/health", 503), ("/v1/models", 503)] {
        let answer = worker.get(path);
        assert_eq!((answer.status, answer.json()["status"].as_str()), (status, Some("starting")), "{path}");
    }
    worker.terminate();
    let ended = worker.wait();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
}

#[test]
fn a_checkpoint_folder_is_served_as_its_gguf_file_is() {
    let path = |name: &str| root(&format!("tests/golden/families/{name}"));
    let models = format!(
        "models=[{{name=\"folder\",path={:?}}},{{name=\"file\",path={:?}}}]",
        path("qwen2"),
        path("qwen2-f32.gguf")
    );
    let worker = Worker::start(&[&models]);
    let text = |model: &str| {
        let request =
            json!({ "model": model, "prompt": [5, 9, 17, 33], "max_tokens": 24, "ignore_eos": true, "temperature": 0 });
        worker.post("/v1/completions", &request).expect_ok()["choices"][0]["text"].clone()
    };
    assert!(!text("folder").as_str().unwrap().is_empty());
    assert_eq!(text("folder"), text("file"));
}

/// Serves a folder's files, whole or in ranges, for as long as it is up.
fn serve(folder: PathBuf, is_up: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = Arc::new(folder);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (folder, is_up) = (Arc::clone(&folder), Arc::clone(&is_up));
            std::thread::spawn(move || {
                while let Some((head, _)) = read_request(&mut stream).filter(|_| is_up.load(Ordering::SeqCst)) {
                    let name = head.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
                    let Ok(bytes) = std::fs::read(folder.join(name)) else {
                        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
                        continue;
                    };
                    let range =
                        head.split_once("range: bytes=").and_then(|(_, rest)| rest.lines().next()?.split_once('-'));
                    let (from, to) = match range {
                        Some((from, to)) => {
                            (from.parse().unwrap(), to.parse::<usize>().unwrap().min(bytes.len() - 1) + 1)
                        }
                        None => (0, bytes.len()),
                    };
                    let status = match range {
                        Some(_) => {
                            format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{}", to - 1, bytes.len())
                        }
                        None => "200 OK".to_owned(),
                    };
                    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", to - from);
                    let _ = stream.write_all(&[head.as_bytes(), &bytes[from..to]].concat());
                }
            });
        }
    });
    address
}

#[test]
fn an_index_on_another_host_is_searched_and_its_end_is_told_without_its_address() {
    let local = Worker::start(&[]);
    let is_up = Arc::new(AtomicBool::new(true));
    let host = serve(sample_index(), Arc::clone(&is_up));
    let worker = Worker::start(&[&format!("retrieval.index=\"http://{host}\"")]);
    let request = |question: &str| json!({ "question": question });
    let asked = request("高血压平时饮食要注意什么？");
    let [far, near] = [&worker, &local].map(|worker| worker.post("/v1/retrieve", &asked).expect_ok());
    assert_eq!(far["references"], near["references"]);
    is_up.store(false, Ordering::SeqCst);
    let other = request("孩子夜里咳嗽有痰怎么办？");
    for path in ["/v1/retrieve", "/v1/consult"] {
        let answer = worker.post(path, &other);
        answer.expect(502, "index_failed");
        assert!(!answer.body.contains(&host.to_string()), "{answer:?}");
    }
    assert_eq!(worker.get("/health/ready").status, 200);
    is_up.store(true, Ordering::SeqCst);
    worker.post("/v1/retrieve", &other).expect_ok();
    assert!(!worker.said().contains(KEY));
}
