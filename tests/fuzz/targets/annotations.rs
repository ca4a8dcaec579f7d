//! See `entry/annotations.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kusabi_fuzz::annotations::run(data));
