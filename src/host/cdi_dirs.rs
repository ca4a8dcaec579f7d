//! Reads CDI specification files from directories.
//!
//! A specification decides which host files a container gets and which programs
//! run as root, so only those count that nobody but root or the caller could
//! have written. One that does not count is reported like a broken one: it
//! never hides the others.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use pathrs::Root;
use pathrs::flags::OpenFlags;

use super::nodes::{io_error, is_absent, metadata};
pub use super::trust::Trusted;
use crate::cdi::{MAX_FILE_SIZE, Registry, SpecFile, search_path};

/// Where and for whom to read.
#[derive(Debug, Clone)]
pub struct Options {
    /// Host root below which the directories are looked up.
    pub root: PathBuf,
    /// Whose files count.
    pub trusted: Trusted,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/"),
            trusted: Trusted::here(),
        }
    }
}

/// Reads the specifications of `explicit` directories, or, without any, of the
/// places where they are looked for on this host; `configured` are the policy's,
/// and `host` is the root of the host's files. Where that is not this one, this
/// one's environment and user count for nothing.
pub fn registry(explicit: &[PathBuf], configured: &[PathBuf], host: &Path) -> Registry {
    let here = host == Path::new("/");
    let spec_dirs = here.then(|| std::env::var("CDI_SPEC_DIRS").ok()).flatten();
    let user_dir = here.then(user_dir).flatten();
    // They are looked up from the host's root, not from where we are.
    let absolute = |dir: &PathBuf| std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
    let explicit: Vec<PathBuf> = match here {
        true => explicit.iter().map(absolute).collect(),
        false => explicit.to_vec(),
    };
    let dirs = search_path(
        &explicit,
        user_dir.as_deref(),
        spec_dirs.as_deref(),
        configured,
    );
    let options = Options {
        root: host.to_owned(),
        ..Options::default()
    };
    let files = read(&dirs, &options);
    Registry::load(dirs, files)
}

/// Where callers without privilege keep specifications of their own.
fn user_dir() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return None;
    }
    let config = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".config")))?;
    Some(config.join("cdi"))
}

/// Reads `*.json` and `*.yaml` of each directory, not recursively, by name; the
/// position in `dirs` is the priority. A directory that does not exist is none;
/// one that cannot be read, or must not be, stands in the result as itself.
#[must_use]
pub fn read(dirs: &[PathBuf], options: &Options) -> Vec<SpecFile> {
    let mut files = Vec::new();
    for (priority, dir) in dirs.iter().enumerate() {
        match Directory::open(dir, options) {
            Ok(None) => {}
            Ok(Some(open)) => files.extend(open.read(dir, priority, options)),
            Err(reason) => files.push(SpecFile {
                path: dir.clone(),
                priority,
                content: Err(reason),
            }),
        }
    }
    files
}

/// Reads one file wherever it is, as `kusabi cdi validate` does: whoever names
/// it answers for it.
///
/// # Errors
/// What the system says.
pub fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| lower(&error))?;
    content(&file)
}

struct Directory {
    /// As the root of what its links may name.
    root: Root,
    /// The same for listing.
    listing: PathBuf,
    /// Without symbolic links, and on this machine.
    real: PathBuf,
    real_root: PathBuf,
    _open: File,
}

impl Directory {
    fn open(dir: &Path, options: &Options) -> Result<Option<Self>, String> {
        let root = Root::open(&options.root).map_err(|error| lower(&io_error(&error)))?;
        let handle = match root.resolve(dir) {
            Ok(handle) => handle,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(lower(&io_error(&error))),
        };
        let file = handle
            .reopen(OpenFlags::O_RDONLY | OpenFlags::O_DIRECTORY)
            .map_err(|error| lower(&io_error(&error)))?;
        let meta = file.metadata().map_err(|error| lower(&error))?;
        if let Some(objection) = options.trusted.objection(&meta) {
            return Err(objection);
        }
        let real = real_path(&file)?;
        let real_root = options.root.canonicalize().map_err(|error| lower(&error))?;
        if let Some(objection) = options.trusted.objection_to_parents(&real_root, &real) {
            return Err(objection);
        }
        Ok(Some(Self {
            root: Root::from_fd(handle),
            // The descriptor, not the path, which may name another by now.
            listing: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
            real,
            real_root,
            _open: file,
        }))
    }

    fn read(&self, dir: &Path, priority: usize, options: &Options) -> Vec<SpecFile> {
        let mut names: Vec<OsString> = match std::fs::read_dir(&self.listing) {
            Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect(),
            Err(error) => {
                return vec![SpecFile {
                    path: dir.to_owned(),
                    priority,
                    content: Err(lower(&error)),
                }];
            }
        };
        names.retain(|name| is_specification(name));
        names.sort();
        names
            .into_iter()
            .filter_map(|name| {
                let content = self.file(&name, options).transpose()?;
                Some(SpecFile {
                    path: dir.join(name),
                    priority,
                    content,
                })
            })
            .collect()
    }

    /// One file; `None` if it is a directory, or gone since it was listed.
    fn file(&self, name: &OsStr, options: &Options) -> Result<Option<Vec<u8>>, String> {
        let link = std::fs::read_link(self.listing.join(name)).ok();
        if link.as_deref().is_some_and(leaves) {
            return Err("a symbolic link out of its directory, put the file itself there".into());
        }
        let handle = match self.root.resolve(name) {
            Ok(handle) => handle,
            Err(error) if is_absent(&error) && link.is_none() => return Ok(None),
            Err(error) if is_absent(&error) => return Err("a symbolic link to nowhere".into()),
            Err(error) => return Err(lower(&io_error(&error))),
        };
        let meta = metadata(&handle).map_err(|error| lower(&error))?;
        if meta.is_dir() && link.is_none() {
            return Ok(None);
        }
        // Also before opening: a FIFO would wait for its other end.
        if !meta.is_file() {
            return Err("not a regular file".into());
        }
        if let Some(objection) = options.trusted.objection(&meta) {
            return Err(objection);
        }
        let file = handle
            .reopen(OpenFlags::O_RDONLY)
            .map_err(|error| lower(&io_error(&error)))?;
        let real = real_path(&file)?;
        if real.parent() != Some(&self.real)
            && let Some(objection) = options.trusted.objection_to_parents(&self.real_root, &real)
        {
            return Err(objection);
        }
        check_size(&meta)?;
        content(&file).map(Some)
    }
}

/// Whether a link's text names something outside its own directory. Links to
/// links cannot leave either: they resolve with the directory as root.
fn leaves(link: &Path) -> bool {
    let mut depth = 0_usize;
    for component in link.components() {
        match component {
            Component::RootDir | Component::Prefix(_) => return true,
            Component::CurDir => {}
            Component::Normal(_) => depth += 1,
            Component::ParentDir => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return true,
            },
        }
    }
    false
}

/// `.json` and `.yaml`, in lower case, as the reference implementation has it.
fn is_specification(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.ends_with(b".json") || name.ends_with(b".yaml")
}

fn real_path(file: &File) -> Result<PathBuf, String> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .map_err(|error| format!("cannot tell its real path: {}", lower(&error)))
}

fn check_size(meta: &Metadata) -> Result<(), String> {
    match usize::try_from(meta.len()) {
        Ok(size) if size <= MAX_FILE_SIZE => Ok(()),
        _ => Err(format!(
            "{} bytes, more than the {MAX_FILE_SIZE} that a specification may have",
            meta.len()
        )),
    }
}

/// At most one byte more than allowed, so that what follows can tell.
fn content(file: &File) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_FILE_SIZE).map_or(u64::MAX, |max| max + 1);
    file.take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| lower(&error))?;
    Ok(bytes)
}

fn lower(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => Errno::from_raw(errno).desc().to_lowercase(),
        None => error.to_string().to_lowercase(),
    }
}
