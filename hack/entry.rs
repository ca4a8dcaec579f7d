//! The build script: where it is known how, `kusabi` begins at its own entry point
//! (`src/sys/entry.rs`), which then goes on to the C library's.

use std::env::var;

fn main() {
    for file in ["entry.rs", "linker", "link.order", "symbols.sh"] {
        println!("cargo:rerun-if-changed=hack/{file}");
    }
    println!("cargo:rustc-check-cfg=cfg(kusabi_entry)");
    let has = |list: &str, item: &str| var(list).is_ok_and(|l| l.split(',').any(|i| i == item));
    let known = has("CARGO_CFG_TARGET_ARCH", "x86_64") && has("CARGO_CFG_TARGET_OS", "linux");
    // Without optimisation the compiler calls functions for the simplest things, and
    // in a static program those cannot be called so early.
    let calls = var("OPT_LEVEL").is_ok_and(|level| level == "0")
        && has("CARGO_CFG_TARGET_FEATURE", "crt-static");
    if known && !calls {
        println!("cargo:rustc-cfg=kusabi_entry");
        println!("cargo:rustc-link-arg-bins=-Wl,-e,kusabi_entry");
    }
}
