//! The last stretch of a container's process: everything between libcontainer's
//! part and the user's program.
//!
//! libcontainer calls an [`Executor`] once the process is inside the container.
//! Ours takes over for good: seccomp, working directory, user, capabilities,
//! looking up the program, waiting for `start`, startContainer hooks, `execve`.
//! It is given nothing of the host but the descriptors it must use, all of them
//! close-on-exec.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};

use super::attributes::Attributes;
use super::credentials::{self, Capabilities, KindText};
use super::fifo::Gate;
use super::lsm;
use super::mounts::SharedMounts;
use super::process::ProcessSpec;
use super::protect::Protection;
use super::seccomp::CompiledFilter;
use crate::edit::{Hook, HookStage};
use crate::rootfs::show_terminal;
use crate::sys;

/// Tags of the messages a child sends over its sync socket.
pub mod message {
    /// The process has failed; the rest is one line of text.
    pub const FAILED: u8 = b'E';
    /// The root is put together; the process waits for an answer.
    pub const ASSEMBLED: u8 = b'A';
    /// The seccomp listener comes with this message.
    pub const LISTENER: u8 = b'N';
    /// The terminal is on its socket; the process waits for an answer.
    pub const TERMINAL: u8 = b'T';
    /// Everything is set up; the process waits for `start`.
    pub const PARKED: u8 = b'P';
}

/// What the tail needs to know.
pub struct Plan {
    /// The user's process.
    pub process: ProcessSpec,
    /// What the kernel is told about it.
    pub attributes: Attributes,
    /// Its capability sets.
    pub capabilities: Capabilities,
    /// Its seccomp filter.
    pub seccomp: Option<CompiledFilter>,
    /// Whether `process.cwd` is made when absent (init) or must exist (exec).
    pub make_cwd: bool,
    /// Whether the terminal, which the library has connected, is still to be shown
    /// at /dev/console.
    pub show_console: bool,
    /// The last changes to the root file system; none for `exec`.
    pub protection: Option<Protection>,
    /// startContainer hooks and the state they get.
    pub start_hooks: Vec<Hook>,
    /// The state, with status created; its pid is 1 inside a pid namespace.
    pub state: serde_json::Value,
    /// Descriptors from 3 on that the program keeps.
    pub preserve_fds: u32,
    /// `LISTEN_FDS` after those, handed on to the program.
    pub listen_fds: u32,
    /// `LISTEN_FDNAMES`, handed on with them.
    pub listen_names: Option<String>,
    /// Whether the groups stay as they are: a plain user's, who cannot get others
    /// and may have a device by one of these.
    pub keep_groups: bool,
    /// Where the root is in the end, for init of a container without a mount
    /// namespace of its own.
    pub shared_mounts: Option<Rc<SharedMounts>>,
}

/// The descriptors of a child, all close-on-exec.
pub struct Ends {
    /// Our end of the sync socket.
    pub sync: OwnedFd,
    /// The gate to wait at; `exec` has none.
    pub gate: Option<Gate>,
}

/// libcontainer's hook into [`run`].
#[derive(Clone)]
pub struct Tail {
    plan: Rc<Plan>,
    ends: Rc<RefCell<Ends>>,
}

impl Tail {
    /// Joins a plan and the child's descriptors.
    #[must_use]
    pub fn new(plan: Rc<Plan>, ends: Rc<RefCell<Ends>>) -> Self {
        Self { plan, ends }
    }
}

impl Executor for Tail {
    fn exec(&self, _spec: &Spec) -> Result<(), ExecutorError> {
        let failure = match self.ends.try_borrow_mut() {
            Ok(mut ends) => run(&self.plan, &mut ends),
            Err(error) => error.to_string(),
        };
        // Whoever waits has been told inside `run` if the gate was passed.
        fail(&self.ends, &failure)
    }

    /// Checked in [`run`], with the user's own rights.
    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    /// The program's environment is built in [`run`], in order and from the
    /// container's own passwd file; ours is not the place to keep it.
    fn setup_envs(&self, _envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

/// Reports a failure to the parent and ends the child.
pub fn fail(ends: &RefCell<Ends>, text: &str) -> ! {
    if let Ok(ends) = ends.try_borrow() {
        let mut bytes = vec![message::FAILED];
        bytes.extend_from_slice(text.replace('\n', " ").as_bytes());
        // The parent may be gone; then nobody wants to know.
        let _ = sys::process::send_fd(ends.sync.as_fd(), &bytes, None);
    }
    sys::process::exit_now(1)
}

/// Runs to `execve`. Returns only the reason why that failed.
fn run(plan: &Plan, ends: &mut Ends) -> String {
    match until_exec(plan, ends) {
        Ok(never) => match never {},
        Err(Failure::Setup(text)) => text,
        Err(Failure::Gate(text)) => {
            if let Some(gate) = &mut ends.gate {
                gate.report(&text);
            }
            // Whoever made the container may be long gone: its own error stream
            // is where its output is looked for.
            let _ = writeln!(io::stderr(), "{text}");
            text
        }
    }
}

enum Failure {
    /// Before the gate: `create` hears of it.
    Setup(String),
    /// After it: `start` does.
    Gate(String),
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Setup(text)
    }
}

enum Never {}

fn until_exec(plan: &Plan, ends: &mut Ends) -> Result<Never, Failure> {
    let process = &plan.process;
    if let Some(mounts) = &plan.shared_mounts {
        mounts.enter(process.terminal)?;
    }
    // The program must not write before size and line discipline are set, and
    // here no filter of the user's is in the way yet.
    if process.terminal {
        if plan.show_console {
            show_terminal(io::stdin().as_fd())
                .map_err(|e| format!("mount /dev/console: {}", e.kind_text()))?;
        }
        send(ends, message::TERMINAL)?;
        await_answer(ends, "the runtime did not take the terminal")?;
    }
    if plan.make_cwd {
        reopen_null()?;
    }
    if plan.make_cwd && !Path::new(&process.cwd).exists() {
        make_directories(&process.cwd)?;
    }
    if let Some(protection) = &plan.protection {
        protection.apply()?;
    }
    // The filter may have other ideas of sigaction.
    if ends.gate.is_some() {
        super::parked::prepare().map_err(|e| format!("set signal handlers: {}", e.kind_text()))?;
    }
    let env = environment(process, plan.listen_fds, plan.listen_names.as_deref())?;
    plan.attributes.apply()?;
    lsm::label_next_program(process)?;
    let early = !process.no_new_privileges;
    // Without no_new_privs the kernel wants CAP_SYS_ADMIN, which is about to go.
    if early {
        load_seccomp(plan, ends)?;
    }
    if let Some(mask) = process.user.umask {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
    }
    let groups = (!plan.keep_groups).then_some(process.user.additional_gids.as_slice());
    credentials::become_user(&process.user, groups, &plan.capabilities, &process.cwd)?;
    let program = find_program(&process.args[0], &env)?;
    // As runc names this moment; readers of its debug log look for it.
    tracing::debug!(
        "{}",
        match ends.gate {
            Some(_) => "init: closing the pipe to signal completion",
            None => "setns_init: about to exec",
        }
    );
    // With it, after everything but the wait, as runc: startContainer hooks are
    // under the profile too, and a listener's descriptor has to reach the parent,
    // who only waits until now.
    close_all_but(plan, ends)?;
    if !early {
        load_seccomp(plan, ends)?;
    }
    if ends.gate.is_some() {
        send(ends, message::PARKED)?;
    }
    if let Some(gate) = &mut ends.gate {
        gate.wait()
            .map_err(|e| Failure::Setup(format!("wait for start: {}", e.kind_text())))?;
    }
    let late = |text: String| {
        if ends.gate.is_some() {
            Failure::Gate(text)
        } else {
            Failure::Setup(text)
        }
    };
    super::hooks::run(
        HookStage::StartContainer,
        &plan.start_hooks,
        &plan.state,
        &env,
    )
    .map_err(|e| late(e.to_string()))?;
    let argv = c_strings(&process.args).map_err(&late)?;
    let envp = c_strings(&env).map_err(&late)?;
    let path = CString::new(program.clone()).map_err(|e| late(e.to_string()))?;
    sys::process::reset_signals().map_err(|e| late(format!("reset signals: {}", e.kind_text())))?;
    let error = sys::process::execve(&path, &argv, &envp);
    Err(late(format!("exec {program}: {}", error.kind_text())))
}

/// Closes every descriptor but the program's own and those the wait needs. They
/// are close-on-exec all the same; but a created container may wait for long, in
/// sight of processes that share its pid namespace.
fn close_all_but(plan: &Plan, ends: &Ends) -> Result<(), String> {
    // Its descriptor goes with the others, and the number may be given again.
    crate::log::close();
    let mut keep = vec![ends.sync.as_raw_fd()];
    if let Some(gate) = &ends.gate {
        keep.extend(gate.raw_fds());
    }
    keep.sort_unstable();
    let mut first = 3 + plan.preserve_fds + plan.listen_fds;
    let mut ranges = Vec::with_capacity(keep.len() + 1);
    for raw in keep {
        let raw = u32::try_from(raw).map_err(|e| e.to_string())?;
        if raw > first {
            ranges.push((first, raw - 1));
        }
        first = first.max(raw + 1);
    }
    ranges.push((first, u32::MAX));
    let failed = |e: io::Error| format!("close descriptors: {}", e.kind_text());
    for (index, (first, last)) in ranges.iter().enumerate() {
        match sys::close_range(*first, *last) {
            // The user's filter may be in force already and not know the call.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                return close_one_by_one(&ranges[index..]).map_err(failed);
            }
            other => other.map_err(failed)?,
        }
    }
    Ok(())
}

/// What [`sys::close_range`] does, with calls that every program needs.
fn close_one_by_one(ranges: &[(u32, u32)]) -> io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for raw in open {
        let number = u32::try_from(raw).unwrap_or(0);
        if ranges
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&number))
        {
            // EBADF: the one that the directory was read through.
            let _ = nix::unistd::close(raw);
        }
    }
    Ok(())
}

/// Tells the parent; it may answer ([`await_answer`]).
pub(super) fn send(ends: &Ends, tag: u8) -> Result<(), String> {
    sys::process::send_fd(ends.sync.as_fd(), &[tag], None)
        .map_err(|e| format!("runtime is gone: {}", e.kind_text()))
}

/// Standard descriptors that are the host's null device become the container's,
/// for reading and writing: where libcontainer reopens them, it is for reading
/// only. What is in its place and is none is refused, as by runc.
fn reopen_null() -> Result<(), String> {
    let failed = |e: io::Error| {
        let reason = e.kind_text();
        format!("error reopening /dev/null inside container: {reason}")
    };
    let null = nix::sys::stat::makedev(1, 3);
    let is_null = |raw: i32| {
        nix::sys::stat::fstat(raw)
            .is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFCHR && s.st_rdev == null)
    };
    let wanted = (0..3).any(is_null);
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .write(wanted)
        // Of whatever it is: no more is to happen than that it is open.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open("/dev/null");
    let file = match opened {
        // Who brings a /dev of their own may leave it out.
        Err(e) if !wanted && e.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(failed)?,
    };
    if !is_null(file.as_raw_fd()) {
        return Err("/dev/null of the container is another device".into());
    }
    for raw in (0..3).filter(|raw| is_null(*raw)) {
        nix::unistd::dup2(file.as_raw_fd(), raw).map_err(|e| failed(e.into()))?;
    }
    Ok(())
}

fn make_directories(path: &str) -> Result<(), String> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|e| format!("mkdir {path}: {}", e.kind_text()))
}

/// Waits for the parent's one byte.
pub(super) fn await_answer(ends: &Ends, failure: &str) -> Result<(), String> {
    match sys::process::recv_fd(ends.sync.as_fd(), 1) {
        Ok((bytes, _)) if bytes.len() == 1 => Ok(()),
        _ => Err(failure.to_owned()),
    }
}

fn load_seccomp(plan: &Plan, ends: &Ends) -> Result<(), String> {
    let Some(filter) = &plan.seccomp else {
        return Ok(());
    };
    let listener = sys::process::seccomp_filter(&filter.program, filter.flags)
        .map_err(|e| format!("unable to init seccomp: {}", e.kind_text()))?;
    if let Some(listener) = listener {
        sys::process::send_fd(
            ends.sync.as_fd(),
            &[message::LISTENER],
            Some(listener.as_fd()),
        )
        .map_err(|e| format!("send seccomp listener: {}", e.kind_text()))?;
        drop(listener);
        await_answer(ends, "the seccomp agent did not take the listener")?;
    }
    Ok(())
}

/// The program's environment, as runc builds it: the last of several entries of
/// a name counts, order is kept, HOME comes from the container's passwd.
fn environment(
    process: &ProcessSpec,
    listen_fds: u32,
    listen_names: Option<&str>,
) -> Result<Vec<String>, String> {
    let mut seen = HashSet::new();
    let mut env = Vec::with_capacity(process.env.len() + 3);
    let mut home = false;
    for entry in process.env.iter().rev() {
        let (name, value) = match entry.split_once('=') {
            None => return Err("invalid environment variable: missing '='".into()),
            Some(("", _)) => {
                return Err("invalid environment variable: name cannot be empty".into());
            }
            Some(pair) => pair,
        };
        if !seen.insert(name) {
            continue;
        }
        if entry.contains('\0') {
            return Err(format!(
                "invalid environment variable {name:?}: contains nul byte (\\x00)"
            ));
        }
        if name == "HOME" {
            if value.is_empty() {
                continue;
            }
            home = true;
        }
        env.push(entry.clone());
    }
    env.reverse();
    if !home {
        env.push(format!("HOME={}", home_of(process.user.uid)));
    }
    if listen_fds > 0 {
        env.push(format!("LISTEN_FDS={listen_fds}"));
        env.push("LISTEN_PID=1".into());
        if let Some(names) = listen_names {
            env.push(format!("LISTEN_FDNAMES={names}"));
        }
    }
    Ok(env)
}

/// The home directory the container's own passwd gives a user. Read as a file:
/// the C library's look-up would load whatever NSS modules the image brings.
fn home_of(uid: u32) -> String {
    const LIMIT: u64 = 1 << 20;
    let mut text = String::new();
    let read = std::fs::File::open("/etc/passwd").and_then(|file| {
        use std::io::Read;
        file.take(LIMIT).read_to_string(&mut text)
    });
    if read.is_err() {
        return "/".into();
    }
    text.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 6 && fields[2].parse() == Ok(uid))
        .map_or_else(|| "/".into(), |fields| fields[5].to_owned())
}

/// Finds the program as Go's `exec.LookPath` does, whose words callers map to
/// exit codes 126 and 127.
fn find_program(name: &str, env: &[String]) -> Result<String, String> {
    let failed = |reason: String| format!("exec: {name:?}: {reason}");
    if name.contains('/') {
        return executable(name).map(|()| name.to_owned()).map_err(failed);
    }
    let path = env
        .iter()
        .find_map(|e| e.strip_prefix("PATH="))
        .unwrap_or("");
    for dir in path.split(':') {
        let dir = if dir.is_empty() { "." } else { dir };
        let candidate = format!("{}/{name}", dir.trim_end_matches('/'));
        if executable(&candidate).is_ok() {
            if candidate.starts_with('/') {
                return Ok(candidate);
            }
            return Err(failed(
                "cannot run executable found relative to current directory".into(),
            ));
        }
    }
    Err(failed("executable file not found in $PATH".into()))
}

/// As the kernel will judge it: with the capabilities that the process has by
/// now. (The C library's `eaccess` knows only ids and modes.)
fn executable(path: &str) -> Result<(), String> {
    use nix::fcntl::AtFlags;
    use nix::unistd::{AccessFlags, faccessat};
    let meta = std::fs::metadata(path).map_err(|e| format!("stat {path}: {}", e.kind_text()))?;
    if meta.is_dir() {
        return Err("is a directory".into());
    }
    faccessat(None, path, AccessFlags::X_OK, AtFlags::AT_EACCESS)
        .map_err(|e| io::Error::from(e).kind_text())
}

fn c_strings(strings: &[String]) -> Result<Vec<CString>, String> {
    strings
        .iter()
        .map(|s| CString::new(s.as_str()).map_err(|_| format!("{s:?} contains a nul byte")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(entries: &[&str]) -> Result<Vec<String>, String> {
        let process = ProcessSpec {
            env: entries.iter().map(|s| (*s).to_owned()).collect(),
            ..ProcessSpec::default()
        };
        environment(&process, 0, None)
    }

    #[test]
    fn the_last_entry_of_a_name_counts_and_order_is_kept() {
        assert_eq!(
            env(&["A=1", "B=2", "A=3", "HOME=/h"]).unwrap(),
            ["B=2", "A=3", "HOME=/h"]
        );
    }

    #[test]
    fn an_empty_home_is_filled_in() {
        let got = env(&["HOME=", "A=1"]).unwrap();
        assert_eq!(got[0], "A=1");
        assert!(got[1].starts_with("HOME=/"));
    }

    #[test]
    fn bad_entries_are_refused_in_runc_s_words() {
        assert!(env(&["A"]).unwrap_err().contains("missing '='"));
        assert!(env(&["=x"]).unwrap_err().contains("name cannot be empty"));
        assert!(env(&["A=\0"]).unwrap_err().contains("nul byte"));
    }

    #[test]
    fn programs_are_found_in_go_s_words() {
        let path = ["PATH=/nowhere:/bin:/usr/bin".to_owned()];
        assert!(find_program("sh", &path).unwrap().ends_with("/sh"));
        let words = |name: &str| find_program(name, &path).unwrap_err();
        assert_eq!(
            words("no-such"),
            "exec: \"no-such\": executable file not found in $PATH"
        );
        assert_eq!(
            words("/no/such"),
            "exec: \"/no/such\": stat /no/such: no such file or directory"
        );
        assert_eq!(words("/etc"), "exec: \"/etc\": is a directory");
        assert_eq!(
            words("/etc/passwd"),
            "exec: \"/etc/passwd\": permission denied"
        );
    }
}
