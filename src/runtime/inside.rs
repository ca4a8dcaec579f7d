//! Acting inside the container from outside: a helper process that enters the
//! namespaces of the container's first process, while that waits.
//!
//! A process of its own, because a user namespace cannot be left again, and
//! because the runtime must not go on with the container's view of anything.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::RuntimeError;
use super::birth::{pair, reap};
use super::credentials::KindText;
use super::lower::Namespaces;
use crate::cgroup::Entry;
use crate::edit::NamespaceKind;
use crate::error::Result;
use crate::host::caller::caller;
use crate::sys::process::{self, Cloned, clone3, recv_fd, send_fd, setns};

/// Longest answer of a helper.
const ANSWER: usize = 64 << 10;

/// The way into a container.
#[derive(Debug)]
pub struct Entrance<'a> {
    init: BorrowedFd<'a>,
    namespaces: i32,
    user_namespace: bool,
}

impl<'a> Entrance<'a> {
    /// Into the namespaces that `init`, a pidfd, does not share with us.
    #[must_use]
    pub fn new(init: BorrowedFd<'a>, namespaces: &Namespaces) -> Self {
        let flags = [
            (NamespaceKind::Mount, libc::CLONE_NEWNS),
            (NamespaceKind::Network, libc::CLONE_NEWNET),
            (NamespaceKind::Ipc, libc::CLONE_NEWIPC),
            (NamespaceKind::Uts, libc::CLONE_NEWUTS),
            (NamespaceKind::Cgroup, libc::CLONE_NEWCGROUP),
            // Holds for children only.
            (NamespaceKind::Pid, libc::CLONE_NEWPID),
        ];
        let private = flags
            .iter()
            .filter(|(kind, _)| namespaces.is_private(*kind));
        Self {
            init,
            namespaces: private.fold(0, |all, (_, flag)| all | flag),
            user_namespace: namespaces.is_private(NamespaceKind::User),
        }
    }

    /// Into its mount namespace as well, where the container is to be in ours.
    #[must_use]
    pub fn with_mounts(mut self) -> Self {
        self.namespaces |= libc::CLONE_NEWNS;
        self
    }

    /// Into the mount namespace of `init` alone, as who we are.
    #[must_use]
    pub fn of_mounts(init: BorrowedFd<'a>) -> Self {
        Self {
            init,
            namespaces: libc::CLONE_NEWNS,
            user_namespace: false,
        }
    }

    /// Whether entering changes who we are.
    #[must_use]
    pub fn has_user_namespace(&self) -> bool {
        self.user_namespace
    }

    /// Does something inside, as the root user there, in a process that belongs to
    /// all of the namespaces: a new procfs, for one, shows the pid namespace of
    /// whoever mounts it.
    ///
    /// # Errors
    /// The kernel's, and the action's.
    pub fn run(
        &self,
        cgroup: Option<&Entry>,
        action: impl FnOnce() -> std::result::Result<(), String>,
    ) -> Result<()> {
        if self.is_privileged() {
            let act = |()| self.enter().and_then(|()| action());
            return self.start(cgroup, (), act)?.wait();
        }
        // Only who is inside the user namespace may have children in the pid
        // namespace.
        let helper = Helper::start(cgroup, (), |()| {
            self.enter()?;
            Helper::start(None, (), |()| action())
                .and_then(Helper::wait)
                .map_err(|e| e.to_string())
        })?;
        helper.wait()
    }

    /// Starts a helper in the pid namespace, and in none of the others yet.
    ///
    /// # Errors
    /// The kernel's.
    pub fn start<H>(
        &self,
        cgroup: Option<&Entry>,
        held: H,
        action: impl FnOnce(H) -> std::result::Result<(), String>,
    ) -> Result<Helper> {
        if self.namespaces & libc::CLONE_NEWPID == 0 {
            return Helper::start(cgroup, held, action);
        }
        if !caller().is_host_root() {
            // Root of a user namespace could join it, and not return.
            return Helper::start(cgroup, (held, action), |(held, action)| {
                setns(self.init, libc::CLONE_NEWPID)
                    .map_err(|e| format!("join pid namespace: {}", e.kind_text()))?;
                Helper::start(None, held, action)
                    .and_then(Helper::wait)
                    .map_err(|e| e.to_string())
            });
        }
        let failed = |what: &'static str| move |e: io::Error| RuntimeError::syscall(what, e);
        let back = File::open("/proc/self/ns/pid").map_err(failed("open own pid namespace"))?;
        setns(self.init, libc::CLONE_NEWPID).map_err(failed("join pid namespace"))?;
        let helper = Helper::start(cgroup, held, action);
        setns(back.as_fd(), libc::CLONE_NEWPID)
            .map_err(failed("return to the own pid namespace"))?;
        helper
    }

    /// Whether this process may enter one namespace after the other.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        nix::unistd::geteuid().is_root()
    }

    /// Enters all of them; in a user namespace as its root user.
    ///
    /// # Errors
    /// The kernel's, as text.
    pub fn enter(&self) -> std::result::Result<(), String> {
        self.enter_some(self.namespaces, self.user_namespace)
    }

    /// Enters all but the user namespace, and stays who we are.
    ///
    /// # Errors
    /// The kernel's, as text.
    pub fn enter_as_ourselves(&self) -> std::result::Result<(), String> {
        self.enter_some(self.namespaces, false)
    }

    /// The rest, after [`Entrance::enter_as_ourselves`].
    ///
    /// # Errors
    /// The kernel's, as text.
    pub fn become_root(&self) -> std::result::Result<(), String> {
        self.enter_some(0, self.user_namespace)
    }

    fn enter_some(&self, namespaces: i32, user: bool) -> std::result::Result<(), String> {
        let enter = || -> io::Result<()> {
            // Whoever is in there already may not look into this process.
            process::prctl(libc::PR_SET_DUMPABLE, 0)?;
            let keeps_groups = !self.is_privileged();
            // In one step: as soon as we are in the user namespace we may no
            // longer look at a process that cannot be dumped.
            let flags = namespaces | if user { libc::CLONE_NEWUSER } else { 0 };
            if flags != 0 {
                setns(self.init, flags)?;
            }
            if user {
                process::setresgid(0)?;
                process::setresuid(0)?;
                if !keeps_groups {
                    process::setgroups(&[])?;
                }
            }
            Ok(())
        };
        enter().map_err(|e| format!("enter the container's namespaces: {}", e.kind_text()))
    }
}

/// A process that does one thing and says how it went.
#[derive(Debug)]
pub struct Helper {
    pidfd: OwnedFd,
    answer: OwnedFd,
}

impl Helper {
    /// Starts it, in a cgroup if one is given. `held` is dropped in the caller,
    /// once the helper has it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn start<H>(
        cgroup: Option<&Entry>,
        held: H,
        action: impl FnOnce(H) -> std::result::Result<(), String>,
    ) -> Result<Self> {
        let (ours, theirs) =
            pair().map_err(|e| RuntimeError::syscall("start a helper process", e))?;
        let directory = cgroup.and_then(Entry::clone_into);
        let cloned = clone3(0, directory, false)
            .map_err(|e| RuntimeError::syscall("start a helper process", e))?;
        match cloned {
            Cloned::Child => {
                drop(ours);
                let joined = cgroup.map_or(Ok(()), |entry| {
                    entry
                        .join()
                        .map_err(|(index, errno)| entry.failed(index, errno).to_string())
                });
                let result = joined.and_then(|()| action(held));
                // An empty packet cannot be told from the end, so one byte leads.
                let text = result
                    .err()
                    .map_or_else(|| "k".to_owned(), |e| format!("e{e}"));
                let _ = send_fd(theirs.as_fd(), text.as_bytes(), None);
                process::exit_now(0)
            }
            Cloned::Parent { pidfd, .. } => Ok(Self {
                pidfd,
                answer: ours,
            }),
        }
    }

    /// Waits until it is done.
    ///
    /// # Errors
    /// What its action returned; a helper that was killed.
    pub fn wait(self) -> Result<()> {
        let answer = recv_fd(self.answer.as_fd(), ANSWER);
        reap(&self.pidfd);
        let (bytes, _) =
            answer.map_err(|e| RuntimeError::syscall("listen to the helper process", e))?;
        match bytes.split_first() {
            Some((b'k', _)) => Ok(()),
            Some((_, text)) => {
                Err(RuntimeError::Init(String::from_utf8_lossy(text).into_owned()).into())
            }
            None => Err(RuntimeError::Init("the helper process was killed".into()).into()),
        }
    }
}
