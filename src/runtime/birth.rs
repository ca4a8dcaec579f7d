//! The parent's side of a new process: clone, limits, and the conversation until
//! it is ready.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use libcontainer::notify_socket::NotifyListener;
use libcontainer::process::channel::{InitSender, MainReceiver, init_channel, main_channel};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{Id, WaitPidFlag, waitid};

use super::RuntimeError;
use super::child::{self, ChildEnds, ChildPlan};
use super::join::Joins;
use super::process::ProcessSpec;
use super::seal;
use super::state::Locked;
use super::tail::message;
use crate::error::{Error, Result};
use crate::sys::process::{Cloned, clone3, pidfd_send_signal, recv_fd, send_fd, setns};

/// How to clone.
pub struct CloneRequest<'a> {
    /// `CLONE_NEW*`.
    pub flags: u64,
    /// A pid namespace to be born in.
    pub pid_namespace: Option<BorrowedFd<'a>>,
    /// Namespaces that a helper joins before it clones.
    pub way: Option<Way<'a>>,
    /// The container, whose directory is also where a socket may be made for a
    /// moment.
    pub locked: &'a Locked,
}

/// How a helper process, whose sibling is then born, gets to where that is to be.
pub enum Way<'a> {
    /// Into namespaces of a container, or into one by its file.
    Through(Through<'a>),
    /// Into what a configuration gives by path.
    Paths(&'a Joins),
}

/// Being born by way of a helper that joins namespaces which we could not leave
/// again: a user namespace, in which alone a plain user may join the others that
/// belong to it; a pid namespace, to whose parent only the host's root returns.
pub struct Through<'a> {
    /// A pidfd of a process in them, or the namespace's file.
    pub target: BorrowedFd<'a>,
    /// `CLONE_NEWUSER` and `CLONE_NEWPID`, or one of them.
    pub flags: i32,
    /// Set on the way: nobody but itself may write it for a process that cannot
    /// be dumped.
    pub oom_score_adj: Option<i32>,
}

/// A process that waits for [`Newborn::release`].
pub struct Newborn {
    /// Its pid here.
    pub pid: i32,
    /// Its descriptor, which is never recycled.
    pub pidfd: OwnedFd,
    sync: OwnedFd,
    main: MainReceiver,
    init: InitSender,
}

/// What a process that is ready brought along.
#[derive(Debug, Default)]
pub struct Ready {
    /// The seccomp listener, where the profile notifies.
    pub listener: Option<OwnedFd>,
}

/// Clones the process. It joins its cgroup in the act (v2) or first thing (v1),
/// so it never runs unfiltered, and then waits.
///
/// # Errors
/// The kernel's, naming the step.
pub fn spawn(request: &CloneRequest<'_>, plan: ChildPlan<'_>) -> Result<Newborn> {
    let channel = |e: libcontainer::process::channel::ChannelError| {
        RuntimeError::Init(format!("create channel: {e}"))
    };
    let (main_sender, main_receiver) = main_channel().map_err(channel)?;
    let (init_sender, init_receiver) = init_channel().map_err(channel)?;
    let (ours, theirs) = pair().map_err(|e| RuntimeError::syscall("create sync socket", e))?;
    let listener = opened_listener(request.locked.path())?;
    let back = match request.pid_namespace {
        Some(namespace) => Some(enter_pid_namespace(namespace)?),
        None => None,
    };
    let cgroup = plan.entry.clone_into();
    let cloned = match &request.way {
        Some(way) => clone_by(way, request.flags, cgroup)?,
        None => {
            clone3(request.flags, cgroup, false).map_err(|e| RuntimeError::syscall(CLONE, e))?
        }
    };
    match cloned {
        Cloned::Child => {
            seal::let_go();
            drop(ours);
            drop(back);
            request.locked.close_inherited();
            // A copy left open here would hide that the parent has gone.
            let _ = main_receiver.close();
            let _ = init_sender.close();
            let ends = ChildEnds {
                main: main_sender,
                init: init_receiver,
                sync: theirs,
                listener,
            };
            child::run(plan, ends)
        }
        Cloned::Parent { pid, pidfd } => {
            let newborn = Newborn {
                pid,
                pidfd,
                sync: ours,
                main: main_receiver,
                init: init_sender,
            };
            let _ = main_sender.close();
            let _ = init_receiver.close();
            if let Some(namespace) = back {
                setns(namespace.as_fd(), libc::CLONE_NEWPID).map_err(|e| {
                    newborn.kill();
                    RuntimeError::syscall("return to the own pid namespace", e)
                })?;
            }
            Ok(newborn)
        }
    }
}

/// What is said of a process that ended without a reason on its way to the gate.
pub const KILLED: &str = "the container's process was killed";

const CLONE: &str = "clone the container's process";

/// [`clone3`] by way of a helper. The process is a child of ours all the same.
fn clone_by(way: &Way<'_>, flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    let failed = |e: io::Error| RuntimeError::syscall("start a helper process", e);
    let (ours, theirs) = pair().map_err(failed)?;
    // Once in another user namespace, nobody may put a process into a cgroup that
    // belongs to ours: who is going there starts from the cgroup.
    let (helpers, own) = match way {
        Way::Through(_) => (None, cgroup),
        Way::Paths(_) => (cgroup, None),
    };
    let helper = match clone3(0, helpers, false).map_err(failed)? {
        Cloned::Parent { pidfd, .. } => pidfd,
        Cloned::Child => {
            drop(ours);
            let there = match way {
                Way::Through(through) => through.enter(),
                Way::Paths(joins) => joins.enter(),
            };
            let (answer, pidfd) = match there.map(|()| clone3(flags, own, true)) {
                Ok(Ok(Cloned::Child)) => return Ok(Cloned::Child),
                Ok(Ok(Cloned::Parent { pid, pidfd })) => (tagged(b'k', pid), Some(pidfd)),
                Ok(Err(e)) => (tagged(b'c', e.raw_os_error().unwrap_or(libc::EIO)), None),
                Err(text) => ([b"e", text.as_bytes()].concat(), None),
            };
            // The parent is gone otherwise, and nobody waits for an answer.
            let _ = send_fd(theirs.as_fd(), &answer, pidfd.as_ref().map(AsFd::as_fd));
            crate::sys::process::exit_now(0)
        }
    };
    drop(theirs);
    let answer = recv_fd(ours.as_fd(), 4096);
    reap(&helper);
    let (bytes, pidfd) =
        answer.map_err(|e| RuntimeError::syscall("listen to the helper process", e))?;
    let number = bytes.get(1..5).and_then(|n| <[u8; 4]>::try_from(n).ok());
    let number = number.map_or(libc::EIO, i32::from_ne_bytes);
    match (bytes.first(), pidfd) {
        (Some(b'k'), Some(pidfd)) => Ok(Cloned::Parent { pid: number, pidfd }),
        (Some(b'c'), _) => {
            let source = io::Error::from_raw_os_error(number);
            Err(RuntimeError::syscall(CLONE, source).into())
        }
        (Some(b'e'), _) => {
            let text = String::from_utf8_lossy(&bytes[1..]).into_owned();
            Err(RuntimeError::Init(text).into())
        }
        _ => Err(RuntimeError::Init("the helper process was killed".into()).into()),
    }
}

fn tagged(tag: u8, number: i32) -> Vec<u8> {
    [&[tag], &number.to_ne_bytes()[..]].concat()
}

impl Through<'_> {
    fn enter(&self) -> Result<(), String> {
        let enter = || {
            if let Some(score) = self.oom_score_adj {
                fs::write("/proc/self/oom_score_adj", score.to_string())?;
            }
            // Nobody in there may look into this process (CVE-2016-9962).
            crate::sys::process::prctl(libc::PR_SET_DUMPABLE, 0)?;
            setns(self.target, self.flags)
        };
        enter().map_err(|e: io::Error| {
            format!(
                "join the container's namespaces: {}",
                crate::error::reason(&e)
            )
        })
    }
}

/// Two ends of a socket that keeps messages apart.
///
/// # Errors
/// The kernel's.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}

/// The library wants to wait for `start` itself, on a socket, before our tail
/// runs. It gets one on which `start` has already been said.
fn opened_listener(dir: &Path) -> Result<NotifyListener> {
    let path = dir.join(format!("notify.{}", std::process::id()));
    let listener = NotifyListener::new(&path)
        .map_err(|e| RuntimeError::Init(format!("{}: {e}", path.display())))?;
    // Through a directory descriptor: a socket's path may have 107 bytes.
    let connected = File::open(dir).and_then(|handle| {
        use std::os::fd::AsRawFd;
        let name = format!("notify.{}", std::process::id());
        UnixStream::connect(format!("/proc/self/fd/{}/{name}", handle.as_raw_fd()))
    });
    let removed = fs::remove_file(&path);
    connected.map_err(|e| Error::io("connect", &path, e))?;
    removed.map_err(|e| Error::io("remove", &path, e))?;
    Ok(listener)
}

/// Lets the next child be born in another pid namespace; returns the way back.
fn enter_pid_namespace(target: BorrowedFd<'_>) -> Result<File> {
    let own = Path::new("/proc/self/ns/pid");
    let back = File::open(own).map_err(|e| Error::io("open", own, e))?;
    setns(target, libc::CLONE_NEWPID)
        .map_err(|e| RuntimeError::syscall("join pid namespace", e))?;
    Ok(back)
}

impl Newborn {
    /// Lets the process go on, once id maps and limits are set.
    ///
    /// # Errors
    /// The kernel's; not that it is gone, whose reason [`Newborn::wait_ready`] reads.
    pub fn release(&self) -> Result<()> {
        self.say(b"r", "release the container's process")?;
        // Now it is this process that waits.
        seal::let_go();
        Ok(())
    }

    /// Waits until the process has put its root together; it goes on when that is
    /// acknowledged.
    ///
    /// # Errors
    /// The process's own one-line reason; that it was killed before.
    pub fn wait_assembled(&self) -> Result<()> {
        let (bytes, _) = self.next_message()?;
        match bytes.split_first() {
            Some((&message::ASSEMBLED, _)) => Ok(()),
            Some((_, reason)) => Err(failed_with(reason)),
            None => Err(RuntimeError::Init(KILLED.into()).into()),
        }
    }

    fn next_message(&self) -> Result<(Vec<u8>, Option<OwnedFd>)> {
        recv_fd(self.sync.as_fd(), 64 << 10)
            .map_err(|e| RuntimeError::syscall("listen to the container's process", e).into())
    }

    /// Talks with the process until it waits at the gate (init, which `parks`) or
    /// has become the program (`exec`).
    ///
    /// `on_hooks` runs when the library has prepared the root file system and not
    /// yet entered it;
    /// `on_listener` takes the seccomp listener; `on_terminal` takes the terminal
    /// from its socket, and the process waits until that has been set up.
    ///
    /// # Errors
    /// The process's own one-line reason, or an error of a callback; that it was
    /// killed before it got to the gate.
    pub fn wait_ready(
        &mut self,
        parks: bool,
        mut on_hooks: impl FnMut() -> Result<()>,
        mut on_listener: impl FnMut(OwnedFd) -> Result<()>,
        mut on_terminal: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        // Any other message, or none, is followed by a reason on our own socket.
        while let Ok((message, _)) = self.main.recv_message_with_fds() {
            match message.to_string().as_str() {
                "HookRequest" => {
                    on_hooks()?;
                    self.init
                        .hook_done()
                        .map_err(|e| RuntimeError::Init(format!("answer hook request: {e}")))?;
                }
                "InitReady" => break,
                other => tracing::debug!("message from the container's process: {other}"),
            }
        }
        loop {
            let (bytes, fd) = self.next_message()?;
            match (bytes.first(), fd) {
                (Some(&message::PARKED), _) => return Ok(()),
                // End of file: it was killed, or has become the program.
                (None, _) if parks => {
                    return Err(RuntimeError::Init(KILLED.into()).into());
                }
                (None, _) => return Ok(()),
                (Some(&message::LISTENER), Some(listener)) => {
                    on_listener(listener)?;
                    self.acknowledge()?;
                }
                (Some(&message::TERMINAL), None) => {
                    on_terminal()?;
                    self.acknowledge()?;
                }
                (Some(_), _) => return Err(failed_with(&bytes[1..])),
            }
        }
    }

    /// Lets a process that waits for an answer go on.
    ///
    /// # Errors
    /// As [`Newborn::release`].
    pub fn acknowledge(&self) -> Result<()> {
        self.say(b"k", "answer the container's process")
    }

    fn say(&self, word: &[u8], what: &'static str) -> Result<()> {
        match send_fd(self.sync.as_fd(), word, None) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                Err(RuntimeError::syscall(what, e).into())
            }
            _ => Ok(()),
        }
    }

    /// Kills and reaps the process. For undo; errors mean that it is gone.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        reap(&self.pidfd);
    }
}

/// What the process said of its failure.
fn failed_with(reason: &[u8]) -> Error {
    RuntimeError::Init(String::from_utf8_lossy(reason).into_owned()).into()
}

/// Waits for a child of ours that has been killed, so that no zombie stays.
pub fn reap(pidfd: &OwnedFd) {
    // ECHILD: not ours, or reaped already.
    while waitid(
        Id::PIDFd(pidfd.as_fd()),
        WaitPidFlag::WEXITED | WaitPidFlag::__WALL,
    ) == Err(nix::errno::Errno::EINTR)
    {}
}

/// Sets the limits of the waiting process.
///
/// # Errors
/// The kernel's, naming the limit.
pub fn limit(pid: i32, process: &ProcessSpec) -> Result<()> {
    for rlimit in &process.rlimits {
        let resource = rlimit.resource()?;
        crate::sys::process::prlimit(pid, resource, rlimit.soft, rlimit.hard).map_err(|e| {
            RuntimeError::syscall(
                format!(
                    "error setting rlimit {} ({}/{})",
                    rlimit.kind, rlimit.soft, rlimit.hard
                ),
                e,
            )
        })?;
    }
    Ok(())
}

/// Sets the OOM score of the waiting process, if one is asked for.
///
/// # Errors
/// The kernel's.
pub fn set_oom_score(pid: i32, process: &ProcessSpec) -> Result<()> {
    let Some(score) = process.oom_score_adj else {
        return Ok(());
    };
    let path = format!("/proc/{pid}/oom_score_adj");
    fs::write(&path, score.to_string()).map_err(|e| Error::io("write", &path, e))
}
