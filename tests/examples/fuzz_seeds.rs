//! Writes small sound files as the first inputs of the fuzz targets.
//!
//! usage: fuzz_seeds FOLDER: one folder a target is made in it

use std::path::Path;

use huatuo_compute::Encoding;
use huatuo_tests::reader_targets::SEPARATOR;
use huatuo_tests::small_models::{self, BYTE_TOKENIZER, OTHER_TOKENIZERS, WORD_TOKENIZER};

fn main() -> std::io::Result<()> {
    let root = std::env::args().nth(1).expect("a folder");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(&root).join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)
    };
    let archive = huatuo_tests::root().join("crates/huatuo-index/fixtures/v1");
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry?.path();
        Ok((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), std::fs::read(&path)?))
    };
    let files = std::fs::read_dir(archive)?.map(file).collect::<std::io::Result<_>>()?;
    write("index", "v1", &huatuo_tests::index_target::archive(&files))?;
    let families = ["baichuan", "chatglm", "llama", "qwen2", "qwen3"];
    for family in families {
        for encoding in [Encoding::F32, Encoding::F16, Encoding::Q8_0, Encoding::Q4K] {
            let (metadata, tokens) = small_models::sentence_piece();
            let model = small_models::gguf(family, encoding, metadata, tokens);
            write("gguf", &format!("{family}-{encoding:?}"), &model)?;
        }
        let (config, weights) = small_models::checkpoint(family, 4);
        write("safetensors", family, &[config.as_bytes(), &[SEPARATOR], &weights].concat())?;
    }
    for encoding in [Encoding::Q4_0, Encoding::Q5K, Encoding::Q6K, Encoding::Bf16] {
        let (metadata, tokens) = small_models::sentence_piece();
        write("gguf", &format!("llama-{encoding:?}"), &small_models::gguf("llama", encoding, metadata, tokens))?;
    }
    let (metadata, tokens) = small_models::byte_level();
    write("gguf", "byte-level", &small_models::gguf("qwen2", Encoding::Q8_0, metadata, tokens))?;
    let (config, weights) = small_models::encoder(8);
    write("safetensors", "encoder", &[config.as_bytes(), &[SEPARATOR], &weights].concat())?;
    for (name, (metadata, _)) in
        [("sentence-piece", small_models::sentence_piece()), ("byte-level", small_models::byte_level())]
    {
        let mut file = Vec::new();
        huatuo_generate::GgufWriter::begin(&mut file, &metadata, &[])?.finish()?;
        write("tokenizer", name, &file)?;
    }
    write("tokenizer", "model", &small_models::sentence_piece_model())?;
    let jsons = [BYTE_TOKENIZER, WORD_TOKENIZER].into_iter().chain(OTHER_TOKENIZERS);
    for (i, json) in jsons.enumerate() {
        write("tokenizer", &format!("json-{i}"), json.as_bytes())?;
    }
    Ok(())
}
