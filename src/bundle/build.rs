//! Making a bundle's directory, and replacing what is in one.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::SFlag;
use nix::unistd::{UnlinkatFlags, symlinkat};

use super::builder::BundleSpec;
use super::contents::{CONFIG, CONFIG_ASIDE, ROOTFS, ROOTFS_ASIDE, removal};
use super::directory::{Directory, Way, foreign, is, real, text};
use super::marker::{MARKER, Marker, Rootfs};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::runtime::fault::{Step, point};

/// A bundle that has been written.
#[derive(Debug)]
pub struct Built {
    /// Its directory, absolute.
    pub path: PathBuf,
    /// What is in its `config.json`.
    pub spec: BundleSpec,
}

/// Writes a bundle into `out`, which is made, or empty, or a bundle of ours.
pub(super) fn build(out: &Path, rootfs: Option<&Path>, spec: BundleSpec) -> Result<Built> {
    // Others may pass through, as root of a user namespace must, and not look.
    let made = match DirBuilder::new().mode(0o711).create(out) {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
        Err(e) => return Err(Error::io("mkdir", out, e)),
    };
    let directory = Directory::open(out)?;
    let target = rootfs.map(text).transpose()?;
    match directory.marker()? {
        Some(old) => replace(&directory, &old, target.as_deref(), &spec)?,
        None => {
            let mut undo = Vec::new();
            let new = New {
                directory: &directory,
                target: target.as_deref(),
                made,
            };
            if let Err(error) = new.write(&spec, &mut undo) {
                // The error that is reported is the first one.
                for (name, flag) in undo.into_iter().rev() {
                    let _ = directory.remove(name, flag);
                }
                if made {
                    let _ = directory.remove_itself();
                }
                return Err(error);
            }
        }
    }
    Ok(Built {
        path: real(out)?,
        spec,
    })
}

/// A bundle where there was none.
struct New<'b> {
    directory: &'b Directory,
    target: Option<&'b str>,
    /// Whether the directory was made, too.
    made: bool,
}

impl New<'_> {
    /// The marker speaks of what follows before it is there, so that a build that
    /// is killed leaves a bundle that can be replaced and removed. `undo` is what
    /// was made.
    fn write(
        &self,
        spec: &BundleSpec,
        undo: &mut Vec<(&'static str, UnlinkatFlags)>,
    ) -> Result<()> {
        let directory = self.directory;
        directory.sweep()?;
        if !directory.is_blank()? {
            return Err(foreign(
                &directory.path,
                "is not empty and is no bundle that kusabi made; choose another directory, or write just the configuration with bundle write-config",
            ));
        }
        let rootfs = match self.target {
            Some(target) => {
                directory.remove(ROOTFS, UnlinkatFlags::RemoveDir)?;
                Rootfs::Link(target.to_owned())
            }
            None => {
                let identity = directory.make_rootfs()?;
                undo.push((ROOTFS, UnlinkatFlags::RemoveDir));
                Rootfs::Directory(identity)
            }
        };
        point(Step::BuildDirectory)?;
        let content = spec.bytes()?;
        let marker = Marker::new(&spec.id, directory.identity()?, self.made, &content, rootfs);
        write_marker(directory, &marker, Way::New)?;
        undo.push((MARKER, UnlinkatFlags::NoRemoveDir));
        point(Step::BuildMarker)?;
        if let Some(target) = self.target {
            link_rootfs(directory, target)?;
            undo.push((ROOTFS, UnlinkatFlags::NoRemoveDir));
        }
        point(Step::BuildRootfs)?;
        directory.write(CONFIG, &content, Way::New)?;
        undo.push((CONFIG, UnlinkatFlags::NoRemoveDir));
        point(Step::BuildConfig)
    }
}

/// Puts a bundle in the place of an earlier one.
fn replace(
    directory: &Directory,
    old: &Marker,
    target: Option<&str>,
    spec: &BundleSpec,
) -> Result<()> {
    directory.sweep()?;
    finish_clean(directory, old)?;
    refuse_other_than_file(directory)?;
    let stays = target.is_none() && matches!(old.rootfs, Rootfs::Directory(_));
    let there = if stays {
        directory.has_rootfs(ROOTFS, old)?
    } else {
        directory.has_removable_rootfs(ROOTFS, old)?
    };
    if there && !stays {
        directory.remove(ROOTFS, removal(old))?;
    }
    let rootfs = match target {
        Some(target) => Rootfs::Link(target.to_owned()),
        None => {
            if !stays {
                write_marker(
                    directory,
                    &old.pending(),
                    Way::Replace(Step::BuildNewMarker),
                )?;
            }
            Rootfs::Directory(directory.make_rootfs()?)
        }
    };
    point(Step::BuildDirectory)?;
    let content = spec.bytes()?;
    let marker =
        Marker::new(&spec.id, directory.identity()?, old.made, &content, rootfs).replacing(old);
    write_marker(directory, &marker, Way::Replace(Step::BuildNewMarker))?;
    point(Step::BuildMarker)?;
    if let Some(target) = target {
        link_rootfs(directory, target)?;
    }
    point(Step::BuildRootfs)?;
    directory.write(CONFIG, &content, Way::Replace(Step::BuildNewConfig))?;
    point(Step::BuildConfig)
}

/// Removes what a killed clean has given another name.
fn finish_clean(directory: &Directory, old: &Marker) -> Result<()> {
    if directory.has_removable_rootfs(ROOTFS_ASIDE, old)? {
        directory.remove(ROOTFS_ASIDE, removal(old))?;
    }
    if directory.has_config(CONFIG_ASIDE, old, false)? {
        directory.remove(CONFIG_ASIDE, UnlinkatFlags::NoRemoveDir)?;
    }
    Ok(())
}

fn write_marker(directory: &Directory, marker: &Marker, way: Way) -> Result<()> {
    let bytes = marker.bytes();
    let bytes = bytes.map_err(|e| Error::io("write", &directory.path, e.into()))?;
    directory.write(MARKER, &bytes, way)
}

fn link_rootfs(directory: &Directory, target: &str) -> Result<()> {
    symlinkat(target, directory.fd(), ROOTFS)
        .map_err(|errno| directory.failed("symlink", ROOTFS, errno))
}

fn refuse_other_than_file(directory: &Directory) -> Result<()> {
    match directory.stat(CONFIG)? {
        Some(stat) if !is(&stat, SFlag::S_IFREG) => {
            Err(directory.foreign(CONFIG, "is not a regular file"))
        }
        _ => Ok(()),
    }
}

/// Writes `config.json` alone, in place of an earlier file of that name.
///
/// # Errors
/// No directory; something other than a file is in the way.
pub fn write_config(out: &Path, document: &Document) -> Result<()> {
    let directory = Directory::open(&real(out)?)?;
    refuse_other_than_file(&directory).map_err(|error| match error {
        // As it was named, not where its links lead.
        Error::Bundle(_) => foreign(&out.join(CONFIG), "is not a regular file"),
        other => other,
    })?;
    directory.sweep()?;
    directory.write(
        CONFIG,
        &document.pretty()?,
        Way::Replace(Step::BuildNewConfig),
    )
}
