//! (being written)

#[allow(unsafe_code)]
pub mod bpf;
