//! A process that opens and makes device nodes on request, from inside a cgroup
//! or a container: this test binary, started again with [`ARGS`].
//!
//! It reads requests from standard input, one a line, and answers each with a
//! line on standard error (standard output is the test harness's): `ok`, or the
//! name of the error.

// Every test binary compiles this module and uses its own part of it.
#![allow(dead_code)]

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};

use kusabi::edit::{Access, DeviceKind, DeviceRule};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// What makes this binary run [`probe`] alone.
pub const ARGS: [&str; 4] = ["--exact", "device_probe::probe", "--ignored", "--nocapture"];

/// The other side.
#[test]
#[ignore = "started by the tests of this file as a process of its own"]
fn probe() {
    let mut held: Option<File> = None;
    for line in std::io::stdin().lines() {
        let answer = answer(&line.unwrap(), &mut held);
        let text = match answer {
            Ok(()) => "ok".to_owned(),
            Err(error) => format!("{:?}", Errno::from_raw(error.raw_os_error().unwrap_or(0))),
        };
        writeln!(std::io::stderr(), "{text}").unwrap();
    }
}

fn answer(line: &str, held: &mut Option<File>) -> std::io::Result<()> {
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        // join FILE: move to the cgroup of this cgroup.procs.
        ["join", procs] => OpenOptions::new().write(true).open(procs)?.write_all(b"0"),
        // open r|w|rw FILE
        ["open", access, path] => open(access, path).map(drop),
        // hold r|w|rw FILE: open and keep
        ["hold", access, path] => {
            *held = Some(open(access, path)?);
            Ok(())
        }
        // read: from what is kept
        ["read"] => held.as_mut().unwrap().read_exact(&mut [0; 8]),
        // mknod c|b MAJOR:MINOR FILE
        ["mknod", kind, numbers, path] => {
            make_node(Path::new(path), kind, numbers)?;
            std::fs::remove_file(path)
        }
        _ => panic!("unknown request {line:?}"),
    }
}

fn open(access: &str, path: &str) -> std::io::Result<File> {
    OpenOptions::new()
        .read(access.contains('r'))
        .write(access.contains('w'))
        .open(path)
}

/// Makes the node `kind MAJOR:MINOR`.
pub fn make_node(path: &Path, kind: &str, numbers: &str) -> std::io::Result<()> {
    let (major, minor) = numbers.split_once(':').unwrap();
    let device = makedev(major.parse().unwrap(), minor.parse().unwrap());
    let kind = if kind == "b" {
        SFlag::S_IFBLK
    } else {
        SFlag::S_IFCHR
    };
    Ok(mknod(path, kind, Mode::from_bits_truncate(0o666), device)?)
}

/// A request for some access to one device, as in `c 60:1 rw`.
#[derive(Debug, Clone)]
pub struct Request {
    pub kind: String,
    pub major: u32,
    pub minor: u32,
    /// `r`, `w`, `rw` or `m`.
    pub access: String,
}

impl Request {
    pub fn new(text: &str) -> Self {
        let words: Vec<_> = text.split([' ', ':']).collect();
        let [kind, major, minor, access] = words[..] else {
            panic!("bad request {text:?}");
        };
        Self {
            kind: kind.to_owned(),
            major: major.parse().unwrap(),
            minor: minor.parse().unwrap(),
            access: access.to_owned(),
        }
    }

    /// The line for the probe, for nodes in a directory that `nodes` filled.
    pub fn line(&self, directory: &Path) -> String {
        let Self {
            kind,
            major,
            minor,
            access,
        } = self;
        let node = directory.join(format!("{kind}-{major}-{minor}"));
        if access == "m" {
            let new = directory.join("new");
            format!("mknod {kind} {major}:{minor} {}", new.display())
        } else {
            format!("open {access} {}", node.display())
        }
    }
}

/// Makes the nodes that these requests open.
pub fn nodes(directory: &Path, requests: &[Request]) {
    for request in requests {
        let Request {
            kind, major, minor, ..
        } = request;
        let path = directory.join(format!("{kind}-{major}-{minor}"));
        if !path.exists() {
            make_node(&path, kind, &format!("{major}:{minor}")).unwrap();
        }
    }
}

/// Whether an answer means that the filter let the request through: `ENXIO` is
/// the answer of a device without a driver.
pub fn allowed(answer: &str) -> bool {
    match answer {
        "ok" | "ENXIO" | "ENODEV" => true,
        "EPERM" => false,
        other => panic!("unexpected answer {other:?}"),
    }
}

/// `deny a *:* rwm; allow c 60:0 rw`
pub fn rules(text: &str) -> Vec<DeviceRule> {
    text.split("; ")
        .filter(|rule| !rule.is_empty())
        .map(|rule| {
            let words: Vec<_> = rule.split([' ', ':']).collect();
            let number = |word: &str| (word != "*").then(|| word.parse().unwrap());
            DeviceRule {
                allow: words[0] == "allow",
                kind: match words[1] {
                    "a" => DeviceKind::All,
                    "b" => DeviceKind::Block,
                    _ => DeviceKind::Char,
                },
                major: number(words[2]),
                minor: number(words[3]),
                access: access(words[4]),
            }
        })
        .collect()
}

/// `rwm`
pub fn access(letters: &str) -> Access {
    letters
        .chars()
        .map(|letter| match letter {
            'r' => Access::READ,
            'w' => Access::WRITE,
            _ => Access::MKNOD,
        })
        .collect()
}

/// A running probe.
pub struct Probe {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStderr>,
}

impl Probe {
    /// Starts one in the cgroup whose directory this is.
    pub fn start(cgroup: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(ARGS)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut probe = Self {
            requests: child.stdin.take(),
            answers: BufReader::new(child.stderr.take().unwrap()),
            child,
        };
        let procs: PathBuf = cgroup.join("cgroup.procs");
        assert_eq!(probe.ask(&format!("join {}", procs.display())), "ok");
        probe
    }

    pub fn ask(&mut self, request: &str) -> String {
        let requests = self.requests.as_mut().unwrap();
        writeln!(requests, "{request}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.child.wait();
    }
}
