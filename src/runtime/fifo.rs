//! The gate between `create` and `start`.
//!
//! Two FIFOs in the state directory. Init, parked, reads `exec.fifo`; `start`
//! writes a byte to it. Init holds `report/exec.fifo` close-on-exec: `start` reads
//! end-of-file when init has become the user's program, or the reason why not. They
//! stay until `delete`: that nobody reads `exec.fifo` any more is the record of the
//! start.
//! They are named as runc's, so that whoever looks over the descriptors of a
//! created container (its suite does) knows them for what they are.
//!
//! FIFOs, because a parked init may already be under the user's seccomp filter:
//! it then needs `read`, `write` and `execve`, which every program needs, and no
//! socket calls, which a profile may deny.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use super::RuntimeError;
use crate::error::{Error, Result};

const START: &str = "exec.fifo";
const REPORT_DIR: &str = "report";
const REPORT: &str = "report/exec.fifo";

/// Init's ends of the gate; both close on exec.
#[derive(Debug)]
pub struct Gate {
    start: File,
    report: File,
}

impl Gate {
    /// Makes the FIFOs and opens init's ends.
    ///
    /// Both are opened for reading *and* writing: init then neither blocks in
    /// `open` nor sees end-of-file when a `start` goes away.
    ///
    /// # Errors
    /// I/O errors.
    pub fn create(dir: &Path) -> Result<Self> {
        let open = |name: &str| -> Result<File> {
            let path = dir.join(name);
            nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600))
                .map_err(|e| Error::io("mkfifo", &path, e.into()))?;
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_CLOEXEC)
                .open(&path)
                .map_err(|e| Error::io("open", &path, e))
        };
        let report = dir.join(REPORT_DIR);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&report)
            .map_err(|e| Error::io("mkdir", &report, e))?;
        Ok(Self {
            start: open(START)?,
            report: open(REPORT)?,
        })
    }

    /// The numbers of init's ends.
    #[must_use]
    pub fn raw_fds(&self) -> [RawFd; 2] {
        [self.start.as_raw_fd(), self.report.as_raw_fd()]
    }

    /// Blocks until `start` has spoken. Called in init.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&mut self) -> io::Result<()> {
        let mut byte = [0];
        self.start.read_exact(&mut byte)
    }

    /// Tells `start` why init will not become the user's program.
    pub fn report(&mut self, message: &str) {
        // Nobody may be left to read it; init ends either way.
        let _ = self.report.write_all(message.as_bytes());
    }
}

/// Lets a parked init go and waits until it is the user's program.
///
/// # Errors
/// [`RuntimeError::NotRunning`] when init is gone, [`RuntimeError::Program`] with
/// its reason when it failed.
pub fn open_gate(dir: &Path, init: &OwnedFd) -> Result<()> {
    let open = |name: &str, write: bool| -> Result<File> {
        let path = dir.join(name);
        let file = OpenOptions::new()
            .read(!write)
            .write(write)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(&path);
        match file {
            Ok(file) => Ok(file),
            // ENXIO: nobody reads, so init is gone.
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => Err(RuntimeError::NotRunning.into()),
            Err(e) => Err(Error::io("open", &path, e)),
        }
    };
    let mut report = open(REPORT, false)?;
    let mut start = open(START, true)?;
    start
        .write_all(&[0])
        .map_err(|e| Error::io("write", dir.join(START), e))?;
    let mut message = Vec::new();
    loop {
        let mut fds = [
            PollFd::new(report.as_fd(), PollFlags::POLLIN),
            PollFd::new(init.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(e) => return Err(Error::io("poll", dir.join(REPORT), e.into())),
            Ok(_) => {}
        }
        match report.read_to_end(&mut message) {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(Error::io("read", dir.join(REPORT), e)),
        }
    }
    if message.is_empty() {
        return Ok(());
    }
    Err(RuntimeError::Program(String::from_utf8_lossy(&message).into_owned()).into())
}

/// Whether init has gone through the gate of a created container: it runs the
/// user's program, or has ended.
///
/// # Errors
/// I/O errors that leave it open.
pub fn is_passed(dir: &Path) -> Result<bool> {
    let path = dir.join(START);
    let opened = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(&path);
    match opened {
        Ok(_) => Ok(false),
        // Nobody has it open for reading any more, or somebody has cleared it away.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENXIO | libc::ENOENT)) => Ok(true),
        Err(e) => Err(Error::io("open", &path, e)),
    }
}
