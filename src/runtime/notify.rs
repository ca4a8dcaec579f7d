//! Readiness of the program in a container, passed on to systemd (`sd_notify(3)`).
//!
//! The container gets a socket of ours in a directory mounted read-only at
//! [`IN_CONTAINER`], never the host's: what arrives there is not trusted. Only a
//! `READY=` line goes on, followed by `MAINPID=` with a pid of our choosing, as
//! with runc: a container must not name the process that systemd then signals,
//! nor feed its watchdog or its descriptor store.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::RuntimeError;
use crate::error::{Error, Result};
use crate::sys::process::send_fd;

/// The directory of the socket inside the container.
pub const IN_CONTAINER: &str = "/run/notify";

/// The variable that leads programs to the socket.
pub const VARIABLE: &str = "NOTIFY_SOCKET";

const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";

/// How long systemd may take to read what it was sent; runc's limit.
const BARRIER: Duration = Duration::from_secs(30);

/// Longer than any message `sd_notify` describes; the rest of one is cut off.
const LIMIT: usize = 4096;

/// The directory on the host, given the container's in the state root.
#[must_use]
pub fn directory(container: &Path) -> PathBuf {
    container.join(DIRECTORY)
}

/// The value of [`VARIABLE`] inside the container.
#[must_use]
pub fn address_inside() -> String {
    format!("{IN_CONTAINER}/{SOCKET}")
}

/// Makes the directory that is mounted in the container.
///
/// # Errors
/// I/O errors.
pub fn make_directory(container: &Path) -> Result<()> {
    let path = directory(container);
    fs::DirBuilder::new()
        .mode(0o755)
        .create(&path)
        // Whatever the umask says: another user may be root in the container.
        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)))
        .map_err(|e| Error::io("mkdir", &path, e))
}

/// The container's socket, and where its news goes.
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
    host: UnixDatagram,
    told: bool,
}

impl Notify {
    /// Opens the container's socket, and a connection to the host's. To be done
    /// before the program starts.
    ///
    /// # Errors
    /// I/O errors, naming the socket.
    pub fn open(container: &Path, host: &Path) -> Result<Self> {
        let path = directory(container);
        let bind = || -> io::Result<UnixDatagram> {
            // Through a directory descriptor: a socket's path may have 107 bytes.
            let handle = File::open(&path)?;
            let name = format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd());
            let socket = UnixDatagram::bind(&name)?;
            fs::set_permissions(&name, Permissions::from_mode(0o777))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = bind().map_err(|e| Error::io("listen on", path.join(SOCKET), e))?;
        let connected = address(host).and_then(|address| {
            let client = UnixDatagram::unbound()?;
            client.connect_addr(&address)?;
            Ok(client)
        });
        Ok(Self {
            socket,
            host: connected.map_err(|e| Error::io("connect", host, e))?,
            told: false,
        })
    }

    /// To be polled for reading until the host has been told.
    #[must_use]
    pub fn interest(&self) -> Option<BorrowedFd<'_>> {
        (!self.told).then(|| self.socket.as_fd())
    }

    /// Reads what the container has sent. Once it is ready, the host is told so,
    /// and that `main` is the process to watch.
    ///
    /// # Errors
    /// The host's socket does not take it.
    pub fn turn(&mut self, main: i32) -> Result<()> {
        let mut buffer = [0; LIMIT];
        while !self.told {
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(failed(e)),
            };
            if let Some(line) = ready(&buffer[..length]) {
                self.send(line)?;
                self.send(format!("MAINPID={main}").as_bytes())?;
                self.told = true;
            }
        }
        Ok(())
    }

    /// Waits until the container is ready or its first process has ended; then
    /// until systemd has read the news, because it asks about its sender, and we
    /// are about to end.
    ///
    /// # Errors
    /// The host's socket does not take it.
    pub fn wait(mut self, main: i32, init: &OwnedFd) -> Result<()> {
        while !self.told {
            let mut fds = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(init.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(failed(e.into())),
                Ok(_) => {}
            }
            let ended = fds[1].any().unwrap_or_default();
            self.turn(main)?;
            if ended && !self.told {
                return Ok(());
            }
        }
        self.barrier()
    }

    fn send(&self, line: &[u8]) -> Result<()> {
        let mut text = line.to_vec();
        text.push(b'\n');
        self.host.send(&text).map(drop).map_err(failed)
    }

    /// `sd_notify_barrier(3)`: systemd closes the descriptor that it is sent once
    /// it has read everything before.
    fn barrier(&self) -> Result<()> {
        let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| failed(e.into()))?;
        send_fd(self.host.as_fd(), b"BARRIER=1", Some(theirs.as_fd())).map_err(failed)?;
        drop(theirs);
        let end = Instant::now() + BARRIER;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(
                &mut [PollFd::new(ours.as_fd(), PollFlags::empty())],
                timeout,
            ) {
                Err(Errno::EINTR) => {}
                Err(e) => return Err(failed(e.into())),
                Ok(0) => {
                    tracing::warn!("no answer to the notification's barrier within 30 s");
                    return Ok(());
                }
                // Hung up: the other end is closed.
                Ok(_) => return Ok(()),
            }
        }
    }
}

/// The first line that says so.
fn ready(message: &[u8]) -> Option<&[u8]> {
    message
        .split(|byte| *byte == b'\n')
        .find(|line| line.starts_with(b"READY="))
}

/// A path, or with a leading `@` an abstract name.
fn address(host: &Path) -> io::Result<SocketAddr> {
    match host.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(host),
    }
}

fn failed(error: io::Error) -> Error {
    RuntimeError::syscall("pass the container's readiness on", error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_that_says_ready_goes_on() {
        assert_eq!(ready(b"READY=1"), Some(&b"READY=1"[..]));
        assert_eq!(
            ready(b"STATUS=up\nREADY=1\nMAINPID=1"),
            Some(&b"READY=1"[..])
        );
        for other in [&b""[..], b"STATUS=READY=1", b"MAINPID=1\nWATCHDOG=1"] {
            assert_eq!(ready(other), None);
        }
    }

    fn scene() -> (tempfile::TempDir, UnixDatagram, Notify, UnixDatagram) {
        let dir = tempfile::tempdir().unwrap();
        make_directory(dir.path()).unwrap();
        let host = dir.path().join("host.sock");
        let systemd = UnixDatagram::bind(&host).unwrap();
        let notify = Notify::open(dir.path(), &host).unwrap();
        let program = UnixDatagram::unbound().unwrap();
        let socket = directory(dir.path()).join(SOCKET);
        let mode = fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o777);
        program.connect(socket).unwrap();
        (dir, systemd, notify, program)
    }

    #[test]
    fn the_host_hears_of_readiness_once_and_with_our_pid() {
        let (_dir, systemd, mut notify, program) = scene();
        program.send(b"STATUS=starting\nMAINPID=1").unwrap();
        notify.turn(77).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let mut buffer = [0; 64];
        assert!(systemd.recv(&mut buffer).is_err(), "a status went through");
        program.send(b"STATUS=up\nREADY=1").unwrap();
        program.send(b"READY=1").unwrap();
        notify.turn(77).unwrap();
        assert!(notify.interest().is_none());
        for line in ["READY=1\n", "MAINPID=77\n"] {
            let length = systemd.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], line.as_bytes());
        }
        assert!(systemd.recv(&mut buffer).is_err());
    }

    #[test]
    fn abstract_names_are_understood() {
        let name = format!("@kusabi-notify-{}", std::process::id());
        let found = address(Path::new(&name)).unwrap();
        assert_eq!(found.as_abstract_name(), Some(&name.as_bytes()[1..]));
    }
}
