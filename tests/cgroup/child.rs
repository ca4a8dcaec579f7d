//! Processes that are born in a cgroup as a container's are.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use kusabi::cgroup::{CgroupError, Entry};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::view::PATIENCE;

/// A child that waits for signals. It dies with the test.
pub struct Child {
    pub pid: Pid,
    pidfd: OwnedFd,
    reaped: bool,
}

impl Child {
    /// Born through `entry`: by `CLONE_INTO_CGROUP` on version 2, else joining
    /// as its first act.
    pub fn born(entry: &Entry) -> Result<Self, CgroupError> {
        Self::born_to(entry, &[])
    }

    /// The same, and becomes `command`, if that is not empty.
    pub fn born_to(entry: &Entry, command: &[&str]) -> Result<Self, CgroupError> {
        let words: Vec<CString> = command.iter().map(|w| CString::new(*w).unwrap()).collect();
        let mut arguments: Vec<*const libc::c_char> = words.iter().map(|w| w.as_ptr()).collect();
        arguments.push(std::ptr::null());
        let mut pidfd: RawFd = -1;
        // SAFETY: all-zero is a valid clone_args.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.flags = u64::try_from(libc::CLONE_PIDFD).unwrap();
        args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
        args.exit_signal = u64::try_from(libc::SIGCHLD).unwrap();
        if let Some(fd) = entry.clone_into() {
            args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
            args.cgroup = u64::try_from(fd.as_raw_fd()).unwrap();
        }
        let parent = std::process::id();
        // SAFETY: without CLONE_VM this is a fork; the child calls only
        // functions that are safe after it.
        let result = unsafe {
            libc::syscall(
                libc::SYS_clone3,
                std::ptr::from_mut(&mut args),
                size_of::<libc::clone_args>(),
            )
        };
        match i32::try_from(result).unwrap() {
            0 => {
                // SAFETY: as above; the thread that made us outlives us.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    // SIGQUIT must leave no core file.
                    libc::prctl(libc::PR_SET_DUMPABLE, 0);
                    if u32::try_from(libc::getppid()) != Ok(parent) || entry.join().is_err() {
                        libc::_exit(7);
                    }
                    if let Some(program) = words.first() {
                        libc::execvp(program.as_ptr(), arguments.as_ptr());
                        libc::_exit(8);
                    }
                    loop {
                        libc::pause();
                    }
                }
            }
            -1 => Err(entry.failed(0, Errno::last())),
            pid => Ok(Self {
                pid: Pid::from_raw(pid),
                // SAFETY: the kernel has just opened it for us.
                pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
                reaped: false,
            }),
        }
    }

    /// Whether it ends within `milliseconds`.
    pub fn ends_within(&self, milliseconds: u16) -> bool {
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(milliseconds)).unwrap() == 1
    }

    /// Which signal it was killed by.
    pub fn killed_by(mut self) -> Signal {
        assert!(
            self.ends_within(u16::try_from(PATIENCE.as_millis()).unwrap()),
            "{} still lives",
            self.pid
        );
        self.reaped = true;
        match waitpid(self.pid, None).unwrap() {
            WaitStatus::Signaled(_, signal, _) => signal,
            other => panic!("{other:?}"),
        }
    }

    /// `(controllers, path)` of each line of `/proc/PID/cgroup`, once it has
    /// joined all of them.
    pub fn cgroups(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).unwrap();
        text.lines()
            .map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                (
                    parts.next().unwrap().to_owned(),
                    parts.next().unwrap().to_owned(),
                )
            })
            .collect()
    }

    /// Waits until the process sleeps in `pause`, which is after it has joined.
    pub fn settle(&self) {
        let deadline = std::time::Instant::now() + PATIENCE;
        let path = format!("/proc/{}/syscall", self.pid);
        let pause = format!("{} ", libc::SYS_pause);
        while !std::fs::read_to_string(&path).unwrap().starts_with(&pause) {
            assert!(
                std::time::Instant::now() < deadline,
                "{} never paused",
                self.pid
            );
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
            if self.ends_within(1000) {
                let _ = waitpid(self.pid, None);
            }
        }
    }
}
