//! See `entry/arguments.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kusabi_fuzz::arguments::run(data));
