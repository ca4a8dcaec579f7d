//! See `entry/config.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kusabi_fuzz::config::run(data));
