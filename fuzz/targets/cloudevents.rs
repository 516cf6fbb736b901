//! See the property in `src/cloudevents.rs`.
#![no_main]

mod measured;

libfuzzer_sys::fuzz_target!(|data: &[u8]| measured::check(queue_worker_fuzz::cloudevents::check, data));
