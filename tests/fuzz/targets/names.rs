//! See `entry/names.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kusabi_fuzz::names::run(data));
