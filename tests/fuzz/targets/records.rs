//! See `entry/records.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kusabi_fuzz::records::run(data));
