//! Terminals: handing the master on, or relaying it to the caller's terminal.
//!
//! libcontainer opens the pseudo-terminal inside the container and sends its
//! master over a socket. That socket is always a pair of ours: the size is set
//! before anybody else sees the master.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::RuntimeError;
use super::process::ConsoleSize;
use crate::error::{Error, Result};
use crate::sys;
use crate::sys::tty::{WindowSize, set_window_size, window_size};

/// Refuses combinations of `terminal`, `--console-socket` and detaching that
/// runc refuses.
///
/// # Errors
/// runc's words.
pub fn check(terminal: bool, detach: bool, socket: Option<&Path>) -> Result<()> {
    let refuse = |text: &str| Err(RuntimeError::Refused(text.to_owned()).into());
    match (terminal, detach, socket) {
        (true, true, None) => {
            refuse("cannot allocate tty if runc will detach without setting console socket")
        }
        (false, _, Some(_)) | (true, false, Some(_)) => {
            refuse("cannot use console socket if runc will not detach or allocate tty")
        }
        _ => Ok(()),
    }
}

/// A socket pair for the master: ours, and the child's.
///
/// # Errors
/// The kernel's.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .map_err(|e| RuntimeError::syscall("create console socket", e).into())
}

/// Receives the master, sets its size, and hands it to the caller's socket, if
/// there is one; otherwise it is returned, with line ends as the program writes
/// them.
///
/// # Errors
/// A child that sent none; a socket that takes none.
pub fn receive(
    ours: &OwnedFd,
    size: Option<ConsoleSize>,
    socket: Option<&Path>,
) -> Result<Option<OwnedFd>> {
    let (name, master) = sys::process::recv_fd(ours.as_fd(), 4096)
        .map_err(|e| RuntimeError::syscall("receive the terminal", e))?;
    let master =
        master.ok_or_else(|| RuntimeError::Init("the container sent no terminal".into()))?;
    if let Some(size) = size.filter(|s| s.height != 0 && s.width != 0) {
        let size = WindowSize {
            rows: size.height,
            columns: size.width,
        };
        set_window_size(master.as_fd(), size)
            .map_err(|e| RuntimeError::syscall("set the terminal's size", e))?;
    }
    hand_on(master, &name, socket)
}

/// Hands a master to the caller's socket, under a name; without one it is
/// returned, with line ends as the program writes them and of the size of the
/// caller's terminal: the program of an `exec` runs at once.
///
/// # Errors
/// A socket that takes none.
pub fn hand_on(master: OwnedFd, name: &[u8], socket: Option<&Path>) -> Result<Option<OwnedFd>> {
    let Some(path) = socket else {
        keep_line_ends(&master)?;
        size_as_callers(master.as_fd());
        return Ok(Some(master));
    };
    let stream = UnixStream::connect(path).map_err(|e| Error::io("connect", path, e))?;
    sys::process::send_fd(stream.as_fd(), name, Some(master.as_fd()))
        .map_err(|e| Error::io("send to", path, e))?;
    Ok(None)
}

/// Gives a terminal the size of the caller's. A caller without a terminal has none
/// to give, nor has a terminal that nobody sized.
fn size_as_callers(master: BorrowedFd<'_>) {
    if let Ok(size) = window_size(io::stdin().as_fd())
        && size.rows != 0
        && size.columns != 0
    {
        let _ = set_window_size(master, size);
    }
}

/// Has the container's terminal pass a line's end as the program wrote it: what
/// reads our standard output may be a file or a pipe, and a terminal adds the
/// carriage return itself. To be done before the program runs.
fn keep_line_ends(master: &OwnedFd) -> Result<()> {
    let fail = |e: nix::errno::Errno| RuntimeError::syscall("set up the terminal", e);
    let mut modes = tcgetattr(master).map_err(fail)?;
    modes.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(master, SetArg::TCSANOW, &modes).map_err(fail)?;
    Ok(())
}

/// The caller's terminal in raw mode, joined to a container's master.
pub struct Relay {
    master: File,
    saved: Option<Termios>,
    to_container: Pump,
    to_caller: Pump,
}

/// Bytes on their way in one direction.
#[derive(Default)]
struct Pump {
    pending: Vec<u8>,
    ended: bool,
}

/// Small enough that a pipe or terminal that is writable takes it at once.
const CHUNK: usize = 4096;

impl Relay {
    /// Takes the caller's terminal over. Restored when dropped.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(master: OwnedFd) -> Result<Self> {
        let fail = |e: nix::errno::Errno| RuntimeError::syscall("set up the terminal", e);
        let flags = nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(master.as_raw_fd(), nix::fcntl::FcntlArg::F_SETFL(flags))
            .map_err(fail)?;
        let stdin = io::stdin();
        let saved = tcgetattr(&stdin).ok();
        if let Some(saved) = &saved {
            let mut raw = saved.clone();
            cfmakeraw(&mut raw);
            // The container's terminal leaves the end of a line to this one.
            raw.output_flags.insert(OutputFlags::OPOST);
            tcsetattr(&stdin, SetArg::TCSANOW, &raw).map_err(fail)?;
        }
        let relay = Self {
            master: master.into(),
            saved,
            to_container: Pump::default(),
            to_caller: Pump::default(),
        };
        relay.resize();
        Ok(relay)
    }

    /// Gives the container's terminal the size of the caller's.
    pub fn resize(&self) {
        size_as_callers(self.master.as_fd());
    }

    /// What to poll: master, stdin, stdout, each with whether to read and write.
    #[must_use]
    pub fn interests(&self) -> [(BorrowedFd<'_>, bool, bool); 3] {
        let stdin = self.to_container.wants_input();
        [
            (
                self.master.as_fd(),
                self.to_caller.wants_input(),
                !self.to_container.pending.is_empty(),
            ),
            (stdin_fd(), stdin, false),
            (stdout_fd(), false, !self.to_caller.pending.is_empty()),
        ]
    }

    /// Moves what can be moved; called when a descriptor of [`Relay::interests`]
    /// is ready.
    pub fn turn(&mut self, master_readable: bool, stdin_readable: bool, stdout_writable: bool) {
        if stdin_readable && self.to_container.wants_input() {
            fill(&mut self.to_container, &mut io::stdin().lock());
        }
        if !self.to_container.pending.is_empty() {
            match self.master.write(&self.to_container.pending) {
                Ok(n) => drop(self.to_container.pending.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // Nobody holds the terminal any more.
                Err(_) => self.to_container.pending.clear(),
            }
        }
        if master_readable && self.to_caller.wants_input() {
            fill(&mut self.to_caller, &mut self.master);
        }
        if stdout_writable {
            self.flush();
        }
    }

    /// After the program's end: passes on what it wrote last.
    pub fn drain(&mut self) {
        loop {
            self.flush();
            if self.to_caller.ended {
                return;
            }
            let before = self.to_caller.pending.len();
            fill(&mut self.to_caller, &mut self.master);
            if self.to_caller.pending.len() == before {
                return;
            }
        }
    }

    fn flush(&mut self) {
        if self.to_caller.pending.is_empty() {
            return;
        }
        let mut stdout = io::stdout().lock();
        let result = stdout
            .write_all(&self.to_caller.pending)
            .and_then(|()| stdout.flush());
        if result.is_err() {
            self.to_caller.ended = true;
        }
        self.to_caller.pending.clear();
    }
}

impl Pump {
    fn wants_input(&self) -> bool {
        !self.ended && self.pending.is_empty()
    }
}

fn fill(pump: &mut Pump, from: &mut impl Read) {
    let mut buffer = [0; CHUNK];
    match from.read(&mut buffer) {
        Ok(n) if n > 0 => pump.pending.extend_from_slice(&buffer[..n]),
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) => {}
        // End of file, or EIO: the last holder of the other side has closed it.
        _ => pump.ended = true,
    }
}

fn stdin_fd() -> BorrowedFd<'static> {
    sys::standard_fd(0)
}

fn stdout_fd() -> BorrowedFd<'static> {
    sys::standard_fd(1)
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            // Nothing more can be done for a terminal that is gone.
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, saved);
        }
    }
}
