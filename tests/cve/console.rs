//! The other end of `--console-socket`.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// A socket that takes whatever terminal it is sent, and keeps the connection.
#[derive(Debug)]
pub struct ConsoleSocket {
    path: PathBuf,
    _listener: UnixListener,
}

impl ConsoleSocket {
    /// Listens at `path`. The runtime's message waits in the socket's buffer.
    pub fn new(path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        Self {
            path,
            _listener: listener,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}
