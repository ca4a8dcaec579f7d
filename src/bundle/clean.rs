//! Removing a bundle, and nothing else.
//!
//! A link is removed and never what it names, a directory only when it is empty,
//! and `rmdir` refuses what is mounted on. Names are removed only once nobody
//! else finds anything by them: what was exchanged since it was looked at is put
//! back.

use std::path::Path;

use nix::unistd::UnlinkatFlags;

use super::contents::{CONFIG, CONFIG_ASIDE, Leftover, ROOTFS, ROOTFS_ASIDE, removal};
use super::directory::{Directory, foreign};
use super::marker::MARKER;
use crate::error::Result;
use crate::runtime::fault::{Step, point};

/// Removes a bundle that [`build`](super::build) made: `config.json`, `rootfs`
/// (the link, or the empty directory), the marker, and the directory if it was
/// made, too. Either everything in it is ours, or nothing is removed. `changed`
/// allows a `config.json` that somebody has changed since.
///
/// # Errors
/// [`BundleError::Foreign`](super::BundleError) names what kusabi did not make.
pub fn clean(out: &Path, changed: bool) -> Result<()> {
    let directory = Directory::open(out)?;
    let marker = directory
        .marker()?
        .ok_or_else(|| foreign(out, "is no bundle that kusabi made"))?;
    let known = [CONFIG, ROOTFS, MARKER, CONFIG_ASIDE, ROOTFS_ASIDE];
    for name in directory.names(".")? {
        if known.contains(&name.as_str()) {
            continue;
        }
        let reason = match directory.leftover(&name)? {
            Some(Leftover::Ours) => continue,
            Some(Leftover::Doubtful) => {
                "is named as what a killed kusabi leaves, but is not whole or not kusabi's, remove it first"
            }
            None => "is not kusabi's, remove it first",
        };
        return Err(directory.foreign(&name, reason));
    }
    let is_rootfs = |name: &str| directory.has_removable_rootfs(name, &marker);
    let is_config = |name: &str| directory.has_config(name, &marker, changed);
    let (links, files) = (removal(&marker), UnlinkatFlags::NoRemoveDir);
    let rootfs_was_aside = is_rootfs(ROOTFS_ASIDE)?;
    is_rootfs(ROOTFS)?;
    let config_was_aside = is_config(CONFIG_ASIDE)?;
    is_config(CONFIG)?;

    directory.sweep()?;
    if rootfs_was_aside {
        directory.remove(ROOTFS_ASIDE, links)?;
    }
    let step = Step::CleanRootfsAside;
    directory.take_away(ROOTFS, ROOTFS_ASIDE, links, is_rootfs, step)?;
    point(Step::CleanRootfs)?;
    if config_was_aside {
        directory.remove(CONFIG_ASIDE, files)?;
    }
    let step = Step::CleanConfigAside;
    directory.take_away(CONFIG, CONFIG_ASIDE, files, is_config, step)?;
    point(Step::CleanConfig)?;
    directory.remove(MARKER, files)?;
    if marker.made {
        directory.remove_itself()?;
    }
    Ok(())
}
