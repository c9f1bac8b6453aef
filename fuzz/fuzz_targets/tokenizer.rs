//! Tokenizers in GGUF, tokenizer.json and tokenizer.model.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| huatuo_tests::reader_targets::tokenizer(input));
