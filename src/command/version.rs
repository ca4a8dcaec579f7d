//! `--version`, in the lines that dockerd and others take apart.

use libseccomp::ScmpVersion;

use super::output;
use crate::error::Result;

/// This program's version.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The newest OCI runtime specification that is understood.
pub const OCI_VERSION: &str = "1.3.0";

/// The commit this was built from; packagers set `KUSABI_COMMIT` at build time.
pub(super) const COMMIT: &str = match option_env!("KUSABI_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The version of the libseccomp that is linked, as `2.5.4`.
pub(super) fn libseccomp() -> Option<String> {
    let version = ScmpVersion::current().ok()?;
    Some(format!(
        "{}.{}.{}",
        version.major, version.minor, version.micro
    ))
}

/// Prints runc's lines under our name. No line but the first may have the word
/// `version`: dockerd takes the last one that has it.
///
/// # Errors
/// When stdout cannot be written.
pub(super) fn run() -> Result<()> {
    let mut text = format!("kusabi version {VERSION}\ncommit: {COMMIT}\nspec: {OCI_VERSION}\n");
    if let Some(version) = libseccomp() {
        text.push_str(&format!("libseccomp: {version}\n"));
    }
    output::print(&text)
}
