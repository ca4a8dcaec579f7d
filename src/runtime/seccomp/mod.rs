//! Seccomp profiles (OCI `config-linux.md`, "Seccomp"), compiled once.
//!
//! libseccomp takes 16-22 ms for a usual profile, the largest single cost of a
//! container. Its output depends only on the profile, the library and the
//! architecture, so it is kept by digest below the state root, in files that
//! nobody else may write. This module never loads a filter; `tail` does.

mod enosys;

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
    ScmpVersion,
};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use sha2::{Digest, Sha256};

use super::RuntimeError;
use super::state::write_atomically;
use super::typed;
use crate::error::{Error, Result};

/// A filter ready to be loaded.
#[derive(Debug, Clone)]
pub struct CompiledFilter {
    /// Classic BPF, eight bytes an instruction, as the kernel takes it.
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// Where the listener goes, when the profile notifies.
    pub listener: Option<Listener>,
}

/// Who handles `SCMP_ACT_NOTIFY`.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Unix socket of the agent.
    pub path: PathBuf,
    /// Opaque string for the agent.
    pub metadata: String,
}

/// Reads `linux.seccomp` and compiles it. `None` where there is no profile, or one
/// that says neither what is the default nor anything else, as for runc.
///
/// # Errors
/// As [`compile`]; a profile of the wrong shape.
pub fn parse_and_compile(
    profile: &serde_json::Value,
    cache: &Path,
) -> Result<Option<CompiledFilter>> {
    let says_nothing = |field: &str| match &profile[field] {
        serde_json::Value::String(text) => text.is_empty(),
        serde_json::Value::Array(list) => list.is_empty(),
        other => other.is_null(),
    };
    let shaped = profile.is_null() || profile.is_object();
    if shaped && says_nothing("defaultAction") && says_nothing("syscalls") {
        return Ok(None);
    }
    let profile: LinuxSeccomp = typed::read(profile, "config.json: linux.seccomp")?;
    compile(&profile, cache).map(Some)
}

/// Hands the seccomp listener to the profile's agent, with the state that OCI
/// `config-linux.md`, "The Container Process State" asks for.
///
/// # Errors
/// An agent that cannot be reached.
pub fn notify_agent(
    agent: &Path,
    metadata: &str,
    state: &serde_json::Value,
    pid: i32,
    listener: &OwnedFd,
) -> Result<()> {
    let message = serde_json::json!({
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": metadata,
        "state": state,
    });
    let stream = UnixStream::connect(agent).map_err(|e| {
        RuntimeError::syscall(
            format!("failed to connect with seccomp agent {}", agent.display()),
            e,
        )
    })?;
    crate::sys::process::send_fd(
        stream.as_fd(),
        message.to_string().as_bytes(),
        Some(listener.as_fd()),
    )
    .map_err(|e| Error::io("send to", agent, e))
}

/// Compiles a profile, or takes it from the cache in `cache`. `None` where the
/// profile can be left out because it allows everything.
///
/// # Errors
/// A profile libseccomp refuses, naming the field.
pub fn compile(profile: &LinuxSeccomp, cache: &Path) -> Result<CompiledFilter> {
    let flags = flags(profile)?;
    tracing::debug!("seccomp filter flags: {flags}");
    let listener = listener(profile)?;
    let key = key(profile)?;
    let program = match read_cache(cache, &key) {
        Some(program) => program,
        None => {
            let program = build(profile)?;
            // A cache that cannot be written costs time, not a container.
            if let Err(error) = write_cache(cache, &key, &program) {
                tracing::debug!("seccomp cache: {error}");
            }
            program
        }
    };
    Ok(CompiledFilter {
        program,
        flags,
        listener,
    })
}

fn key(profile: &LinuxSeccomp) -> Result<String> {
    let text = serde_json::to_vec(profile).map_err(|e| refused("linux.seccomp", e))?;
    let version = ScmpVersion::current().map_err(|e| refused("linux.seccomp", e))?;
    let mut hash = Sha256::new();
    hash.update(&text);
    hash.update(format!(
        "\0{version:?}\0{}\0{CACHE_FORMAT}",
        std::env::consts::ARCH
    ));
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// Changes whenever `build` gives other programs for the same profile.
const CACHE_FORMAT: u32 = 2;

fn read_cache(dir: &Path, key: &str) -> Option<Vec<u8>> {
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(dir.join(key))
        .ok()?;
    let meta = file.metadata().ok()?;
    // A filter that another user could have written is no filter.
    let ours = meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o7777 == 0o600;
    if !ours || !meta.is_file() {
        return None;
    }
    let mut program = Vec::new();
    file.read_to_end(&mut program).ok()?;
    (!program.is_empty() && program.len().is_multiple_of(8)).then_some(program)
}

fn write_cache(dir: &Path, key: &str, program: &[u8]) -> Result<()> {
    if !dir.is_dir() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|e| Error::io("mkdir", dir, e))?;
    }
    write_atomically(&dir.join(key), program, 0o600)
}

fn build(profile: &LinuxSeccomp) -> Result<Vec<u8>> {
    let fail = |e: libseccomp::error::SeccompError| refused("linux.seccomp", e);
    let default = action(
        profile.default_action(),
        profile.default_errno_ret(),
        "defaultAction",
    )?;
    let mut filter = ScmpFilterContext::new(default).map_err(fail)?;
    for arch in profile.architectures().iter().flatten() {
        // The specification's names are libseccomp's.
        let name =
            serde_json::to_value(arch).map_err(|e| refused("linux.seccomp.architectures", e))?;
        let arch = ScmpArch::from_str(name.as_str().unwrap_or_default()).map_err(fail)?;
        filter.add_arch(arch).map_err(fail)?;
    }
    // Binary-tree filters: fewer instructions run for each system call.
    filter.set_ctl_optimize(2).map_err(fail)?;
    for (index, rule) in profile.syscalls().iter().flatten().enumerate() {
        add_rule(&mut filter, rule, default, index)?;
    }
    let mut program =
        enosys::prelude(profile).map_err(|e| refused("linux.seccomp.architectures", e))?;
    program.extend(export(&filter)?);
    Ok(program)
}

fn add_rule(
    filter: &mut ScmpFilterContext,
    rule: &LinuxSyscall,
    default: ScmpAction,
    index: usize,
) -> Result<()> {
    let field = format!("linux.seccomp.syscalls[{index}]");
    let action = action(
        rule.action(),
        rule.errno_ret(),
        &format!("syscalls[{index}].action"),
    )?;
    // libseccomp refuses a rule that says what the default says.
    if action == default {
        return Ok(());
    }
    let comparisons: Vec<ScmpArgCompare> = rule
        .args()
        .iter()
        .flatten()
        .map(|arg| {
            let (op, datum) = match arg.op() {
                LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
                LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
                LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
                LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
                LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
                LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
                LinuxSeccompOperator::ScmpCmpMaskedEq => (
                    ScmpCompareOp::MaskedEqual(arg.value()),
                    arg.value_two().unwrap_or(0),
                ),
            };
            u32::try_from(arg.index())
                .map(|i| ScmpArgCompare::new(i, op, datum))
                .map_err(|e| refused(&field, e))
        })
        .collect::<Result<_>>()?;
    // Conditions on different arguments must all hold; conditions on the same
    // one are alternatives, which libseccomp wants as rules of their own.
    let mut seen = [0u8; 6];
    for arg in rule.args().iter().flatten() {
        match seen.get_mut(arg.index()) {
            Some(count) => *count += 1,
            None => return Err(refused(&field, "args: index must be 0 to 5")),
        }
    }
    let alternatives = seen.iter().any(|count| *count > 1);
    for name in rule.names() {
        // A system call that this library does not know cannot be made here.
        let Ok(syscall) = ScmpSyscall::from_name(name) else {
            tracing::debug!("seccomp: ignoring unknown system call {name}");
            continue;
        };
        let added = if comparisons.is_empty() {
            filter.add_rule(action, syscall).map(drop)
        } else if alternatives {
            comparisons.iter().try_for_each(|c| {
                filter
                    .add_rule_conditional(action, syscall, std::slice::from_ref(c))
                    .map(drop)
            })
        } else {
            filter
                .add_rule_conditional(action, syscall, &comparisons)
                .map(drop)
        };
        added.map_err(|e| refused(&format!("{field}: {name}"), e))?;
    }
    Ok(())
}

fn export(filter: &ScmpFilterContext) -> Result<Vec<u8>> {
    let io = |e: std::io::Error| RuntimeError::syscall("export seccomp filter", e);
    let mut file = File::from(crate::sys::memfd_exec(c"seccomp").map_err(io)?);
    filter
        .export_bpf(file.as_fd())
        .map_err(|e| refused("linux.seccomp", e))?;
    file.rewind().map_err(io)?;
    let mut program = Vec::new();
    file.read_to_end(&mut program).map_err(io)?;
    Ok(program)
}

fn action(action: LinuxSeccompAction, errno: Option<u32>, field: &str) -> Result<ScmpAction> {
    let code = errno.unwrap_or(libc::EPERM.cast_unsigned());
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            ScmpAction::KillThread
        }
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => {
            ScmpAction::Errno(i32::try_from(code).map_err(|e| refused(field, e))?)
        }
        LinuxSeccompAction::ScmpActTrace => {
            ScmpAction::Trace(u16::try_from(code).map_err(|e| refused(field, e))?)
        }
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
    })
}

fn flags(profile: &LinuxSeccomp) -> Result<u32> {
    let mut flags: u64 = 0;
    match profile.flags() {
        // runc's default: speculation is the kernel's business, not ours.
        None => flags |= libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        Some(list) => {
            for flag in list {
                flags |= match flag {
                    LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
                    // There is one thread. With a listener the kernel would
                    // want yet another flag.
                    LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
                    LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => {
                        libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW
                    }
                    LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                        libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
                    }
                };
            }
        }
    }
    if notifies(profile) {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    } else {
        // Only meaningful, and only accepted, with a listener.
        flags &= !libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    }
    u32::try_from(flags).map_err(|e| refused("linux.seccomp.flags", e))
}

fn notifies(profile: &LinuxSeccomp) -> bool {
    profile
        .syscalls()
        .iter()
        .flatten()
        .any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify)
}

fn listener(profile: &LinuxSeccomp) -> Result<Option<Listener>> {
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        return Err(refused(
            "linux.seccomp.defaultAction",
            "SCMP_ACT_NOTIFY cannot be used as default action",
        ));
    }
    let path = profile
        .listener_path()
        .clone()
        .filter(|p| !p.as_os_str().is_empty());
    let metadata = profile.listener_metadata().clone().unwrap_or_default();
    if !notifies(profile) {
        if path.is_none() && !metadata.is_empty() {
            return Err(refused(
                "linux.seccomp.listenerMetadata",
                "needs a listenerPath",
            ));
        }
        return Ok(None);
    }
    // The agent answers `write` itself through the runtime's socket: notifying
    // on it would wait for ourselves.
    let writes = profile.syscalls().iter().flatten().any(|rule| {
        rule.action() == LinuxSeccompAction::ScmpActNotify
            && rule.names().iter().any(|n| n == "write")
    });
    if writes {
        return Err(refused(
            "linux.seccomp",
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ));
    }
    match path {
        Some(path) => Ok(Some(Listener { path, metadata })),
        None => Err(refused(
            "linux.seccomp.listenerPath",
            "SCMP_ACT_NOTIFY needs a listenerPath",
        )),
    }
}

fn refused(field: &str, reason: impl std::fmt::Display) -> Error {
    RuntimeError::config(field, reason.to_string()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(json: serde_json::Value) -> LinuxSeccomp {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_cache_gives_the_same_program_and_refuses_files_others_may_write() {
        let tmp = tempfile::tempdir().unwrap();
        let cache = tmp.path().join("cache");
        let p = profile(serde_json::json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"}]
        }));
        let first = compile(&p, &cache).unwrap().program;
        let file = fs::read_dir(&cache)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        assert_eq!(compile(&p, &cache).unwrap().program, first);
        fs::write(&file, [0; 8]).unwrap();
        assert_eq!(
            compile(&p, &cache).unwrap().program,
            [0; 8],
            "read from the cache"
        );
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        assert_eq!(
            compile(&p, &cache).unwrap().program,
            first,
            "an open file is not trusted"
        );
    }

    #[test]
    fn notify_needs_a_listener_and_spares_write() {
        let tmp = tempfile::tempdir().unwrap();
        let base = |name: &str, path: Option<&str>| {
            let mut v = serde_json::json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": [name], "action": "SCMP_ACT_NOTIFY"}]
            });
            if let Some(p) = path {
                v["listenerPath"] = p.into();
            }
            profile(v)
        };
        assert!(compile(&base("mkdir", None), tmp.path()).is_err());
        assert!(compile(&base("write", Some("/x")), tmp.path()).is_err());
        let ok = compile(&base("mkdir", Some("/x")), tmp.path()).unwrap();
        assert!(ok.listener.is_some());
        assert_ne!(
            u64::from(ok.flags) & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            0
        );
    }
}
