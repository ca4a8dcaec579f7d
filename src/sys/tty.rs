//! Terminals: window size and controlling terminal.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Character rows.
    pub rows: u16,
    /// Character columns.
    pub columns: u16,
}

/// `TIOCGWINSZ`.
///
/// # Errors
/// `ENOTTY` when the descriptor is no terminal.
pub fn window_size(fd: BorrowedFd<'_>) -> io::Result<WindowSize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the ioctl writes one `winsize`.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) }.into())?;
    Ok(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// `TIOCSWINSZ`; the kernel sends SIGWINCH to the terminal's foreground group.
///
/// # Errors
/// `ENOTTY` when the descriptor is no terminal.
pub fn set_window_size(fd: BorrowedFd<'_>, size: WindowSize) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the ioctl reads one `winsize`.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into())
        .map(drop)
}
