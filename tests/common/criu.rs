//! CRIU, where this machine's works.

use std::process::{Command, Stdio};

use super::skip;

/// Whether CRIU can be had: another kernel may be too new for it. Says so, as a
/// skip, where it cannot.
pub fn has_criu() -> bool {
    let checked = Command::new("criu")
        .arg("check")
        .stdin(Stdio::null())
        .output();
    match checked {
        Ok(output) if output.status.success() => true,
        Ok(_) => {
            skip::report("criu: this version does not work with this kernel");
            false
        }
        Err(_) => {
            skip::report("criu: not installed");
            false
        }
    }
}

/// Whether this CRIU and kernel have a feature, as `criu check --feature` names
/// it. Says so, as a skip, where they have not.
pub fn has_criu_feature(name: &str) -> bool {
    let checked = Command::new("criu")
        .args(["check", "--feature", name])
        .stdin(Stdio::null())
        .output();
    let has = checked.is_ok_and(|output| output.status.success());
    if !has {
        skip::report(&format!("criu: {name} is not there"));
    }
    has
}
