//! See the property in `src/api.rs`.
#![no_main]

mod measured;

libfuzzer_sys::fuzz_target!(|data: &[u8]| measured::check(queue_worker_fuzz::api::check, data));
