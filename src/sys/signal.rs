//! Signal dispositions that `execve` takes back.

use std::io;

/// What a process does about a signal, until it executes a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Ends with exit status 128 plus the signal's number.
    Exit,
    /// Nothing, although it is not ignored: a program executed later starts with
    /// the default.
    Nothing,
}

extern "C" fn exit(signal: libc::c_int) {
    // SAFETY: `_exit` is async-signal-safe.
    unsafe { libc::_exit(128 + signal) }
}

extern "C" fn nothing(_signal: libc::c_int) {}

/// Sets the reaction to one signal, unless it is ignored: whoever started us
/// with it ignored wants the program to start so, too.
///
/// # Errors
/// `EINVAL` for a signal that has no other reaction than its default.
pub fn react(signal: i32, reaction: Reaction) -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int) = match reaction {
        Reaction::Exit => exit,
        Reaction::Nothing => nothing,
    };
    // SAFETY: all-zero is a valid `sigaction` with no flags and an empty mask;
    // both pointers are valid for the calls, and the handlers do nothing that is
    // not async-signal-safe.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        check(libc::sigaction(signal, std::ptr::null(), &raw mut old))?;
        if old.sa_sigaction == libc::SIG_IGN {
            return Ok(());
        }
        let mut new: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = handler as libc::sighandler_t;
        new.sa_flags = libc::SA_RESTART;
        check(libc::sigaction(
            signal,
            &raw const new,
            std::ptr::null_mut(),
        ))
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    super::check(result.into()).map(drop)
}
