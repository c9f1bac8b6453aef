//! Checkpoints in safetensors, with their config.json.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| huatuo_tests::reader_targets::safetensors(input));
