//! Terminals: one to call the runtime from, as a person does, and the far end
//! of a console socket, as an engine has.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::process::{deadline, wait_until};

/// The master end of a pseudo terminal, and all that has come out of it.
#[derive(Debug)]
pub struct Terminal {
    master: Arc<OwnedFd>,
    output: Arc<Mutex<Vec<u8>>>,
    ended: Arc<Mutex<bool>>,
}

impl Terminal {
    /// A new terminal of 24 rows and 80 columns, and its slave end.
    pub fn open() -> (Self, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).expect("a pseudo terminal");
        rustix::pty::unlockpt(&master).expect("unlock it");
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).expect("its slave");
        let terminal = Self::of_master(master);
        terminal.resize(24, 80);
        (terminal, slave)
    }

    /// A terminal whose master somebody else has made.
    pub fn of_master(master: OwnedFd) -> Self {
        let terminal = Self {
            master: Arc::new(master),
            output: Arc::default(),
            ended: Arc::default(),
        };
        let (master, output, ended) = (
            Arc::clone(&terminal.master),
            Arc::clone(&terminal.output),
            Arc::clone(&terminal.ended),
        );
        // Ends with EIO when the last slave is closed.
        std::thread::spawn(move || {
            let mut buffer = [0u8; 4096];
            loop {
                match nix::unistd::read(std::os::fd::AsRawFd::as_raw_fd(&*master), &mut buffer) {
                    Ok(0) | Err(nix::Error::EIO) => break,
                    Ok(count) => output.lock().unwrap().extend(&buffer[..count]),
                    Err(nix::Error::EINTR | nix::Error::EAGAIN) => {}
                    Err(e) => panic!("read a terminal: {e}"),
                }
            }
            *ended.lock().unwrap() = true;
        });
        terminal
    }

    /// Changes its size, as a window manager does.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&*self.master, size).expect("resize");
    }

    /// Types `text`.
    pub fn type_in(&self, text: &str) {
        let written = nix::unistd::write(self.master.as_fd(), text.as_bytes()).expect("type");
        assert_eq!(written, text.len());
    }

    /// All that has been shown up to now.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// Waits until `text` has been shown.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        let end = Instant::now() + deadline();
        while !self.shown().contains(text) {
            assert!(
                Instant::now() < end,
                "no {text:?} at the deadline, but {:?}",
                self.shown()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until nobody has the slave open any more.
    #[track_caller]
    pub fn wait_for_end(&self) {
        wait_until("the terminal's end", || *self.ended.lock().unwrap());
    }
}

/// The socket that `--console-socket` names.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    /// Listens at `path`.
    pub fn bind(path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path)
            .unwrap_or_else(|e| panic!("listen at {}: {e}", path.display()));
        listener.set_nonblocking(true).expect("non-blocking");
        Self { listener, path }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Accepts one connection and receives the terminal that is sent over it,
    /// and the name that comes along.
    #[track_caller]
    pub fn receive(&self) -> (Terminal, String) {
        let mut accepted = None;
        wait_until("a connection to the console socket", || {
            match self.listener.accept() {
                Ok((stream, _)) => accepted = Some(stream),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => panic!("accept: {e}"),
            }
            accepted.is_some()
        });
        let stream = accepted.expect("a connection");
        stream.set_nonblocking(false).expect("blocking");
        stream
            .set_read_timeout(Some(deadline()))
            .expect("a timeout");
        let mut name = [0u8; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &stream,
            &mut [io::IoSliceMut::new(&mut name)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .expect("a message");
        let mut descriptors: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(rights) => Some(rights.collect::<Vec<_>>()),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(descriptors.len(), 1, "descriptors sent");
        let name = String::from_utf8_lossy(&name[..received.bytes]).into_owned();
        (Terminal::of_master(descriptors.remove(0)), name)
    }
}
