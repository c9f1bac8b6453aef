//! Requests to the worker.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| huatuo_tests::reader_targets::request(input));
