//! The `kusabi` binary.
fn main() {}
