//! What callers without privilege are refused, in runc's words, before anything
//! is made.

use super::RuntimeError;
use super::create::id_mappings;
use super::lower::Namespaces;
use super::process::ProcessSpec;
use crate::document::Document;
use crate::edit::NamespaceKind;
use crate::error::Result;
use crate::rootless::{Caller, Maps, unmapped};

/// Checks a configuration that a plain user wants to run; anybody else's passes.
///
/// # Errors
/// No user namespace, additional groups, ids that are not mapped.
pub fn check(
    caller: &Caller,
    document: &Document,
    namespaces: &Namespaces,
    process: &ProcessSpec,
) -> Result<()> {
    if !caller.is_user() {
        return Ok(());
    }
    let refuse = |words: String| Err(RuntimeError::Refused(words).into());
    if !namespaces.is_private(NamespaceKind::User) {
        return refuse("rootless container requires user namespaces".into());
    }
    groups(process)?;
    if !namespaces.is_new(NamespaceKind::User) {
        return Ok(());
    }
    let map = |field| id_mappings(document.value(), field);
    let maps = Maps {
        uid: map("uidMappings")?,
        gid: map("gidMappings")?,
    };
    if maps.gid.is_empty() {
        return refuse("rootless containers requires at least one GID mapping".into());
    }
    for mount in document.mounts()? {
        for option in &mount.options {
            if let Some((what, id)) = unmapped(option, &maps) {
                return refuse(format!(
                    "cannot specify {option} mount option for rootless container: user \
                     namespaces enabled, but no mapping found for {what} {id}"
                ));
            }
        }
    }
    Ok(())
}

/// A plain user's process keeps the groups it has, which may be what gives it a
/// device, and can be given no others.
///
/// # Errors
/// Groups were asked for.
pub fn groups(process: &ProcessSpec) -> Result<()> {
    if process.user.additional_gids.is_empty() {
        return Ok(());
    }
    let words = "cannot set any additional groups in a rootless container";
    Err(RuntimeError::Refused(words.into()).into())
}
