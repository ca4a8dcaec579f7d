//! Signals to a container that has been created and not started.
//!
//! The first process of a pid namespace is not touched by a signal that it has
//! no handler for, and every other process is ended by most. A parked init of
//! runc is a Go program, which has handlers: it ends on a request to end, in or
//! out of a pid namespace, and takes no notice of the rest. Engines count on it:
//! they stop a container that never started with SIGTERM. `execve` resets the
//! handlers, so the program starts as if there had been none.

use std::io;

use crate::sys::signal::{Reaction, react};

/// Requests to end, by the terminal, the user or an engine.
const ENDS: &[i32] = &[
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGABRT,
];

/// Left at their default: they have no other reaction, they stop and continue,
/// or they tell of a fault of this process (SIGSYS: of its seccomp filter).
const DEFAULT: &[i32] = &[
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGCONT,
    libc::SIGCHLD,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGSYS,
];

/// Signals 32 and 33 belong to the C library.
const RESERVED: std::ops::RangeInclusive<i32> = 32..=33;
const LAST: i32 = 64;

/// Prepares the calling process for the wait.
///
/// # Errors
/// The kernel's; none is expected.
pub fn prepare() -> io::Result<()> {
    for signal in (1..=LAST).filter(|s| !RESERVED.contains(s) && !DEFAULT.contains(s)) {
        let reaction = if ENDS.contains(&signal) {
            Reaction::Exit
        } else {
            Reaction::Nothing
        };
        react(signal, reaction)?;
    }
    Ok(())
}
