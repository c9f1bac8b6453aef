//! The converter writes the golden files of `decoder_parity.rs` from their checkpoints, so that parity of those files is
//! parity of the converter: `python3 tests/golden/families.py` writes both.

use std::path::{Path, PathBuf};

use huatuo_compute::Encoding;
use huatuo_generate::{CheckpointFiles, Mixture, convert};

fn families() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/families")
}

fn read_folder(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect()
}

#[test]
fn every_family_is_converted_to_its_golden_file() {
    let names = ["llama", "llama3", "baichuan", "baichuan-alibi", "chatglm", "qwen2", "qwen3"];
    for name in names {
        let files = read_folder(&families().join(name));
        let mut checkpoint = CheckpointFiles::default();
        files.iter().for_each(|(file, bytes)| checkpoint.insert(file, bytes));
        let mut converted = Vec::new();
        convert(&checkpoint, name, Mixture::Uniform(Encoding::F32), &mut converted).unwrap();
        let golden = std::fs::read(families().join(format!("{name}-f32.gguf"))).unwrap();
        assert!(converted == golden, "{name}: another file than the golden one");
    }
}

#[test]
fn no_cut_or_flipped_checkpoint_panics() {
    let files = read_folder(&families().join("chatglm"));
    for (damaged, bytes) in &files {
        // Every byte of what is parsed, not of the weights behind it.
        let parsed = bytes.len().min(4096);
        for at in (0..parsed).step_by(parsed.div_ceil(200)) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x15;
            for broken in [&bytes[..at], &flipped] {
                let mut checkpoint = CheckpointFiles::default();
                files.iter().for_each(|(file, bytes)| checkpoint.insert(file, bytes));
                checkpoint.insert(damaged, broken);
                let _ = convert(&checkpoint, "damaged", Mixture::Q4KM, std::io::sink());
            }
        }
    }
}
