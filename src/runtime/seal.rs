//! Keeping the runtime's own executable out of a container's reach
//! (CVE-2019-5736).
//!
//! A container can make the runtime run `/proc/self/exe` inside it and then open
//! that for writing. So `create`, `run` and `exec` first execute themselves from
//! a file nobody can write: the binary seen through a detached, read-only overlay
//! (two lower directories, no upper), which costs about 50 µs and cannot be
//! unwrapped, or a sealed memfd copy where that cannot be had. A read-only bind
//! would not do: root in a user namespace may clear its flag.
//!
//! Mostly that is done when the program is entered (`sys::entry`), by the same steps
//! and with the same mark, before there is anything to be done twice. What decides
//! is [`ensure`].

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use nix::sys::statvfs::FsFlags;

use super::RuntimeError;
use crate::error::{Error, Result};
use crate::sys;

const EXE: &str = "/proc/self/exe";

/// Set for the sealed process: device and inode it was started from, and the
/// descriptor of the overlay's mount if that is still open.
pub(crate) const MARK: &str = "KUSABI_SEALED";

/// The second lower directory, since overlayfs wants two: nothing in it is ever
/// looked up. It may not contain the first, nor lie in it.
const OTHER: &str = "/dev";

/// How this process was sealed, once [`begin`] has found that it is, or why that
/// cannot be told: doing it again would end no better.
static SEALED: Mutex<Option<io::Result<Sealed>>> = Mutex::new(None);

struct Sealed {
    /// The overlay, which waits for every processor when its last descriptor is
    /// closed: that has time until there is nothing else to do.
    mount: Option<OwnedFd>,
}

/// Takes the mark of a sealing from the environment, where no program that is
/// started from here is to find it. The first thing to be done.
pub fn begin() {
    let Some(mark) = std::env::var_os(MARK) else {
        return;
    };
    sys::remove_env(MARK);
    let sealed = mark.to_str().and_then(|mark| read_mark(mark).transpose());
    if let Ok(mut ours) = SEALED.lock() {
        *ours = sealed;
    }
}

/// The sealing that a mark tells of; none where it is a leftover in the caller's
/// environment, of another file, or says so of one that is not sealed.
fn read_mark(mark: &str) -> io::Result<Option<Sealed>> {
    let meta = std::fs::metadata(EXE)?;
    let Some(rest) = mark.strip_prefix(&format!("{}:{}", meta.dev(), meta.ino())) else {
        return Ok(None);
    };
    let mount = match rest.strip_prefix(':') {
        Some(number) => {
            let fd = number.parse().ok().filter(|&fd| fd > libc::STDERR_FILENO);
            match fd.and_then(|fd| sys::set_cloexec(fd, true).is_ok().then_some(fd)) {
                Some(fd) => Some(fd),
                None => return Ok(None),
            }
        }
        None if rest.is_empty() => None,
        None => return Ok(None),
    };
    if !is_sealed()? {
        return Ok(None);
    }
    let mount = mount.map(sys::adopt_fd).transpose()?;
    Ok(Some(Sealed { mount }))
}

/// Whether what this process runs from is one of the two that [`replace`] makes.
fn is_sealed() -> io::Result<bool> {
    let found = statfs(EXE)?;
    if found.filesystem_type() == OVERLAYFS_SUPER_MAGIC
        && found.flags().contains(FsFlags::ST_RDONLY)
    {
        return Ok(true);
    }
    match fcntl(File::open(EXE)?.as_raw_fd(), FcntlArg::F_GET_SEALS) {
        Ok(seals) => Ok(seals & libc::F_SEAL_WRITE != 0),
        // A file that takes none.
        Err(Errno::EINVAL) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Returns at once when this process already runs from a sealed file; otherwise
/// replaces it by one that does, with the same arguments.
///
/// # Errors
/// When neither way of sealing works: running unsealed is not an option.
pub fn ensure() -> Result<()> {
    let known = SEALED.lock().ok().and_then(|mut sealed| match &*sealed {
        Some(Ok(_)) => Some(Ok(())),
        Some(Err(_)) => sealed.take().map(|sealed| sealed.map(drop)),
        None => None,
    });
    match known {
        Some(Ok(())) => {
            tracing::debug!("exeseal: using /proc/self/exe clone");
            Ok(())
        }
        Some(Err(e)) => Err(RuntimeError::syscall("look at the sealed executable", e).into()),
        None => replace(),
    }
}

/// Closes what is left of the sealing: a new process at once, so that it is not
/// the last that has it, and this one while it would wait in any case.
pub fn let_go() {
    if let Ok(mut sealed) = SEALED.lock()
        && let Some(Ok(sealed)) = &mut *sealed
    {
        drop(sealed.mount.take());
    }
}

/// Executes this program again from a sealed file; returns only to say why not.
fn replace() -> Result<()> {
    let exe = Path::new(EXE);
    let sealed = overlay(exe).or_else(|error| {
        tracing::debug!("sealing by overlay: {error}; copying instead");
        copy(exe)
    });
    let sealed = sealed.map_err(|e| RuntimeError::syscall("seal the runtime's executable", e))?;
    let file = File::from(sealed);
    let meta = file.metadata().map_err(|e| Error::io("stat", exe, e))?;
    let mark = format!("{MARK}={}:{}", meta.dev(), meta.ino());
    let args: Vec<CString> = std::env::args_os()
        .map(|a| c_string(a.into_vec()))
        .collect::<Result<_>>()?;
    let mut env: Vec<CString> = std::env::vars_os()
        .map(|(name, value)| {
            let mut entry = name.into_vec();
            entry.push(b'=');
            entry.extend_from_slice(value.as_bytes());
            c_string(entry)
        })
        .collect::<Result<_>>()?;
    env.push(c_string(mark.into_bytes())?);
    let error = sys::process::fexecve(file.as_fd(), &args, &env);
    Err(RuntimeError::syscall("execute the sealed runtime", error).into())
}

fn c_string(bytes: Vec<u8>) -> Result<CString> {
    CString::new(bytes)
        .map_err(|e| RuntimeError::Refused(format!("argument with a nul byte: {e}")).into())
}

/// A read-only view of the executable's directory.
fn overlay(exe: &Path) -> io::Result<OwnedFd> {
    use sys::fsmount::Context;
    let path = std::fs::read_link(exe)?;
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    };
    let other = Path::new(OTHER);
    if other.starts_with(dir) || dir.starts_with(other) {
        return Err(io::Error::other("the executable lies in /dev or above it"));
    }
    let context = Context::open(c"overlay")?;
    let add =
        |path: &Path| context.set(c"lowerdir+", Some(&nul_ended(path.as_os_str().as_bytes())?));
    // Before Linux 6.8 there is only the list, in one string of 255 bytes. Before
    // 6.5, what overlayfs does not know is found, and logged, when it is mounted.
    let lists = || context.set(c"lowerdir", Some(&lower_list(dir, other)?));
    if is_before(6, 5)? {
        lists()?;
    } else {
        match add(dir) {
            Ok(()) => add(other)?,
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => lists()?,
            Err(e) => return Err(e),
        }
    }
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
    let mount = context.mount(attributes)?;
    let flags =
        nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NOFOLLOW;
    let raw = {
        nix::fcntl::openat(
            Some(mount.as_raw_fd()),
            Path::new(name),
            flags,
            nix::sys::stat::Mode::empty(),
        )?
    };
    let file = sys::adopt_fd(raw)?;
    // The name could mean another file by now; what runs must be what ran.
    let (here, there) = (
        std::fs::metadata(exe)?,
        File::from(file.try_clone()?).metadata()?,
    );
    if here.ino() != there.ino() || here.size() != there.size() {
        return Err(io::Error::other("the executable has been replaced"));
    }
    Ok(file)
}

/// Whether the kernel calls itself older than that.
fn is_before(major: u32, minor: u32) -> io::Result<bool> {
    let name = nix::sys::utsname::uname()?;
    Ok(release(&name.release().to_string_lossy()) < (major, minor))
}

/// The first two numbers of a release such as `6.1.0-50-amd64`; what is no number
/// is 0.
fn release(text: &str) -> (u32, u32) {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn nul_ended(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Two directories as overlayfs' `lowerdir` wants them: a colon in a name, and
/// what escapes one, is escaped.
fn lower_list(first: &Path, second: &Path) -> io::Result<CString> {
    let mut list = Vec::new();
    for path in [first, second] {
        if !list.is_empty() {
            list.push(b':');
        }
        for &byte in path.as_os_str().as_bytes() {
            if matches!(byte, b':' | b'\\') {
                list.push(b'\\');
            }
            list.push(byte);
        }
    }
    nul_ended(&list)
}

/// A sealed copy in memory.
fn copy(exe: &Path) -> io::Result<OwnedFd> {
    let mut source = File::open(exe)?;
    let mut target = File::from(sys::memfd_exec(c"kusabi")?);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = source.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        target.write_all(&buffer[..n])?;
    }
    // Where another processor has not let go of a page that was just written, the
    // kernel waits a moment and gives up. Nothing tells when that is over.
    let end = Instant::now() + SEAL_WITHIN;
    loop {
        match sys::seal_memfd(target.as_fd()) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < end => {}
            sealed => return sealed.map(|()| target.into()),
        }
    }
}

/// How long a busy machine may keep a copy from being sealed.
const SEAL_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colons_and_backslashes_in_lower_directories_are_escaped() {
        let list = lower_list(Path::new("/a:b\\c"), Path::new("/run")).unwrap();
        assert_eq!(list.to_bytes(), br"/a\:b\\c:/run");
    }

    #[test]
    fn a_release_is_two_numbers() {
        for (text, want) in [
            ("6.1.0-50-amd64", (6, 1)),
            ("6.18.0", (6, 18)),
            ("5.15-rc1", (5, 15)),
            ("7", (7, 0)),
            ("", (0, 0)),
        ] {
            assert_eq!(release(text), want, "{text}");
        }
        assert!(release("6.1.0") < (6, 5) && release("6.18.0") >= (6, 5));
    }
}
