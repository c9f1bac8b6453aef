//! A build whose process is killed in the middle of it, again and again.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::sample::{files, read_folder, writer};
use crate::MANIFEST_NAME;
use crate::rabitq::split_mix;

const RECORDS: usize = 40_000;
const DIMENSIONS: usize = 16;
const KILLS: u32 = 10;
/// Names the folder for the process that is killed.
const FOLDER: &str = "HUATUO_KILLED_BUILD";

#[test]
#[ignore = "what the other test runs in a process of its own"]
fn build_in_the_folder_that_is_named() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        writer(&PathBuf::from(folder), RECORDS, DIMENSIONS).finish().unwrap();
    }
}

fn start(folder: &std::path::Path) -> Child {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--ignored", "--exact", "tests::killed::build_in_the_folder_that_is_named"]).env(FOLDER, folder);
    process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_build_killed_at_ten_random_points_comes_to_the_same_bytes() {
    let undisturbed = tempfile::tempdir().unwrap();
    let began = Instant::now();
    assert!(start(undisturbed.path()).wait().unwrap().success());
    let whole = began.elapsed();
    let expected = read_folder(undisturbed.path());
    assert!(expected == files(RECORDS, DIMENSIONS));

    let folder = tempfile::tempdir().unwrap();
    let (mut state, mut killed) = (11, 0);
    while killed < KILLS {
        let mut process = start(folder.path());
        let share = (split_mix(&mut state) >> 40) as f64 / (1u64 << 24) as f64;
        std::thread::sleep(Duration::from_secs_f64(whole.as_secs_f64() * share));
        match process.try_wait().unwrap() {
            None => {
                process.kill().unwrap();
                process.wait().unwrap();
                killed += 1;
            }
            // What was left took less time than that: begin again, so that ten are killed.
            Some(ended) => {
                assert!(ended.success());
                assert!(read_folder(folder.path()) == expected);
                std::fs::remove_file(folder.path().join(MANIFEST_NAME)).unwrap();
            }
        }
    }
    assert!(start(folder.path()).wait().unwrap().success());
    let found = read_folder(folder.path());
    assert!(found == expected, "{:?} instead of {:?}", found.keys(), expected.keys());
}
