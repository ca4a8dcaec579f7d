//! Namespaces that exist already, joined by path (OCI `config-linux.md`,
//! "Namespaces").
//!
//! They are opened, and their kind is checked, before anything is made. Where the
//! container shares our user namespace its process joins them itself. Otherwise a
//! helper process does it and clones the container's process as its sibling: what
//! belongs to our user namespace can only be joined before that is left, and what
//! is new has to be made after the container's has been entered.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::RuntimeError;
use super::birth::{pair, reap};
use super::credentials::KindText;
use super::lower::Namespaces;
use crate::edit::{IdMapping, NamespaceKind};
use crate::error::{Error, Result};
use crate::sys::process::{
    Cloned, clone3, exit_now, namespace_kind, prctl, recv_fd, send_fd, setns,
};

/// One namespace to join.
#[derive(Debug)]
struct Join {
    kind: NamespaceKind,
    path: PathBuf,
    file: File,
}

/// The namespaces of a container that have a path.
#[derive(Debug, Default)]
pub struct Joins {
    user: Option<Join>,
    others: Vec<Join>,
    /// Whether the container is in another user namespace than we are.
    user_namespace: bool,
}

/// The kernel's number of a kind.
fn clone_flag(kind: NamespaceKind) -> i32 {
    /// Not in libc: it shares its bit with `CLONE_CSIGNAL`s.
    const CLONE_NEWTIME: i32 = 0x80;
    match kind {
        NamespaceKind::Pid => libc::CLONE_NEWPID,
        NamespaceKind::Network => libc::CLONE_NEWNET,
        NamespaceKind::Mount => libc::CLONE_NEWNS,
        NamespaceKind::Ipc => libc::CLONE_NEWIPC,
        NamespaceKind::Uts => libc::CLONE_NEWUTS,
        NamespaceKind::User => libc::CLONE_NEWUSER,
        NamespaceKind::Cgroup => libc::CLONE_NEWCGROUP,
        NamespaceKind::Time => CLONE_NEWTIME,
    }
}

impl Join {
    fn open(kind: NamespaceKind, path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let refuse = |why: &str| {
            RuntimeError::config(
                "linux.namespaces",
                format!("{}: {why} {} namespace", path.display(), kind.key()),
            )
        };
        match namespace_kind(file.as_fd()) {
            Ok(found) if found == clone_flag(kind) => {}
            Ok(_) => return Err(refuse("is a namespace, but no").into()),
            // Not a file of nsfs.
            Err(_) => return Err(refuse("is no").into()),
        }
        Ok(Self {
            kind,
            path: path.to_path_buf(),
            file,
        })
    }

    fn enter(&self) -> io::Result<()> {
        setns(self.file.as_fd(), clone_flag(self.kind))
    }

    /// Whether it is the one that we are in; `name` as in `/proc/self/ns`.
    fn is_ours(&self, name: &str) -> Result<bool> {
        let own = Path::new("/proc/self/ns").join(name);
        let ours = fs::metadata(&own).map_err(|e| Error::io("stat", &own, e))?;
        let theirs = self.file.metadata();
        let theirs = theirs.map_err(|e| Error::io("stat", &self.path, e))?;
        Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()))
    }

    fn failed(&self, error: &io::Error) -> String {
        format!(
            "join {} namespace {}: {}",
            self.kind.key(),
            self.path.display(),
            error.kind_text()
        )
    }
}

impl Joins {
    /// Opens them all.
    ///
    /// # Errors
    /// A path that cannot be opened, or is not a namespace of the kind it is
    /// given for.
    pub fn open(namespaces: &Namespaces) -> Result<Self> {
        let open = |kind: NamespaceKind| {
            let join = |path| Join::open(kind, path);
            namespaces.path(kind).map(join).transpose()
        };
        let mut others = Vec::new();
        for kind in NamespaceKind::ALL {
            if !matches!(kind, NamespaceKind::User | NamespaceKind::Mount) {
                others.extend(open(kind)?);
            }
        }
        // The last: it changes what paths mean.
        let mounts = open(NamespaceKind::Mount)?;
        if let Some(join) = &mounts
            && join.is_ours("mnt")?
        {
            return Err(RuntimeError::config(
                "linux.namespaces",
                format!(
                    "{}: is the mount namespace of the runtime, whose root the container's \
                     would replace; leave the entry out to share it",
                    join.path.display()
                ),
            )
            .into());
        }
        others.extend(mounts);
        Ok(Self {
            user: open(NamespaceKind::User)?,
            others,
            user_namespace: namespaces.is_private(NamespaceKind::User),
        })
    }

    /// Whether a helper has to clone the container's process.
    #[must_use]
    pub fn need_helper(&self) -> bool {
        self.user.is_some() || self.user_namespace && !self.others.is_empty()
    }

    /// The user namespace.
    #[must_use]
    pub fn user(&self) -> Option<BorrowedFd<'_>> {
        self.user.as_ref().map(|join| join.file.as_fd())
    }

    /// The pid namespace.
    #[must_use]
    pub fn pid(&self) -> Option<BorrowedFd<'_>> {
        self.other(NamespaceKind::Pid)
    }

    /// The mount namespace.
    #[must_use]
    pub fn mounts(&self) -> Option<BorrowedFd<'_>> {
        self.other(NamespaceKind::Mount)
    }

    fn other(&self, kind: NamespaceKind) -> Option<BorrowedFd<'_>> {
        let mut all = self.others.iter();
        all.find(|join| join.kind == kind)
            .map(|join| join.file.as_fd())
    }

    /// Whether the network namespace is the one that we are in, by path.
    ///
    /// # Errors
    /// When ours cannot be looked at.
    pub fn is_own_network(&self) -> Result<bool> {
        let mut all = self.others.iter();
        let Some(join) = all.find(|join| join.kind == NamespaceKind::Network) else {
            return Ok(false);
        };
        join.is_ours("net")
    }

    /// For the container's process to join by itself, where no helper is needed:
    /// descriptors and `CLONE_NEW*`. A pid namespace is for children alone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn by_the_process(&self) -> Result<Vec<(OwnedFd, i32)>> {
        if self.need_helper() {
            return Ok(Vec::new());
        }
        self.others
            .iter()
            .filter(|join| join.kind != NamespaceKind::Pid)
            .map(|join| {
                let copy = join.file.try_clone();
                let copy = copy.map_err(|e| RuntimeError::syscall("dup namespace", e))?;
                Ok((copy.into(), clone_flag(join.kind)))
            })
            .collect()
    }

    /// Enters them all, as far as we may before the user namespace, the rest after
    /// it. For a helper process: there is no way back.
    ///
    /// # Errors
    /// One line, naming the namespace.
    pub fn enter(&self) -> Result<(), String> {
        // Nobody in there may look into this process (CVE-2016-9962).
        prctl(libc::PR_SET_DUMPABLE, 0).map_err(|e| format!("set dumpable: {}", e.kind_text()))?;
        let mut late = Vec::new();
        for join in &self.others {
            match join.enter() {
                Err(e) if e.raw_os_error() == Some(libc::EPERM) && self.user.is_some() => {
                    late.push(join);
                }
                result => result.map_err(|e| join.failed(&e))?,
            }
        }
        if let Some(user) = &self.user {
            user.enter().map_err(|e| user.failed(&e))?;
        }
        for join in late {
            join.enter().map_err(|e| join.failed(&e))?;
        }
        Ok(())
    }
}

/// How a user namespace maps user and group ids, as our own namespace numbers
/// them: a process of it has the files to read.
///
/// # Errors
/// The kernel's; `EINVAL` for the namespace that we are in.
pub fn mappings(user: BorrowedFd<'_>) -> Result<(Vec<IdMapping>, Vec<IdMapping>)> {
    let failed = |e: io::Error| RuntimeError::syscall("join the user namespace", e);
    let (ours, theirs) = pair().map_err(failed)?;
    let (pid, helper) = match clone3(0, None, false).map_err(failed)? {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            drop(ours);
            let errno = setns(user, libc::CLONE_NEWUSER)
                .err()
                .and_then(|e| e.raw_os_error())
                .unwrap_or(0);
            let _ = send_fd(theirs.as_fd(), &errno.to_ne_bytes(), None);
            // End of file: it has been read.
            let _ = recv_fd(theirs.as_fd(), 1);
            exit_now(0);
        }
    };
    drop(theirs);
    let maps = || -> Result<(Vec<IdMapping>, Vec<IdMapping>)> {
        let (bytes, _) = recv_fd(ours.as_fd(), 4).map_err(failed)?;
        match <[u8; 4]>::try_from(bytes.as_slice()).map(i32::from_ne_bytes) {
            Ok(0) => Ok((read_map(pid, "uid_map")?, read_map(pid, "gid_map")?)),
            Ok(errno) => Err(failed(io::Error::from_raw_os_error(errno)).into()),
            Err(_) => Err(RuntimeError::Init("the helper process was killed".into()).into()),
        }
    };
    let maps = maps();
    drop(ours);
    reap(&helper);
    maps
}

fn read_map(pid: i32, name: &str) -> Result<Vec<IdMapping>> {
    let path = format!("/proc/{pid}/{name}");
    let text = fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
    parse_map(&text).ok_or_else(|| {
        let error = io::Error::from(io::ErrorKind::InvalidData);
        Error::io("read", &path, error)
    })
}

/// Lines of inside, outside, count (user_namespaces(7)).
fn parse_map(text: &str) -> Option<Vec<IdMapping>> {
    text.lines()
        .map(|line| {
            let mut fields = line.split_whitespace().map(|field| field.parse().ok());
            Some(IdMapping {
                container_id: fields.next()??,
                host_id: fields.next()??,
                size: fields.next()??,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Namespace;

    fn with_path(kind: NamespaceKind, path: &str) -> Result<Joins> {
        let entry = Namespace {
            kind,
            path: Some(path.into()),
        };
        Joins::open(&Namespaces::new(vec![entry]).unwrap())
    }

    #[test]
    fn only_namespaces_of_the_kind_are_taken() {
        let joins = with_path(NamespaceKind::Network, "/proc/self/ns/net").unwrap();
        assert!(!joins.need_helper() && joins.is_own_network().unwrap());
        assert_eq!(joins.by_the_process().unwrap().len(), 1);
        for (path, words) in [
            (
                "/proc/self/ns/uts",
                "linux.namespaces: /proc/self/ns/uts: is a namespace, but no network namespace",
            ),
            (
                "/proc/self/status",
                "linux.namespaces: /proc/self/status: is no network namespace",
            ),
            ("/no/such", "open /no/such: no such file or directory"),
        ] {
            let error = with_path(NamespaceKind::Network, path).unwrap_err();
            assert!(error.to_string().ends_with(words), "{error}");
        }
    }

    #[test]
    fn a_user_namespace_needs_a_helper() {
        let joins = with_path(NamespaceKind::User, "/proc/self/ns/user").unwrap();
        assert!(joins.need_helper());
        assert!(joins.by_the_process().unwrap().is_empty());
    }

    #[test]
    fn maps_are_read() {
        let map = parse_map("         0     100000      65534\n     65534 1 1\n").unwrap();
        assert_eq!(
            map,
            [
                IdMapping {
                    container_id: 0,
                    host_id: 100_000,
                    size: 65_534
                },
                IdMapping {
                    container_id: 65_534,
                    host_id: 1,
                    size: 1
                },
            ]
        );
        assert_eq!(parse_map("0 x 1\n"), None);
    }
}
