//! See the property in `src/retry_after.rs`.
#![no_main]

mod measured;

libfuzzer_sys::fuzz_target!(|data: &[u8]| measured::check(queue_worker_fuzz::retry_after::check, data));
