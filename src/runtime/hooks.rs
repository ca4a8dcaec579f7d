//! Hooks that run in the runtime's namespaces, or in init right before the
//! user's program (OCI `config.md`, "POSIX-platform Hooks").
//!
//! A hook gets the container's state on stdin, exactly the environment its entry
//! lists, and the bundle as working directory. What it prints is kept for the
//! error: it must not reach a caller who parses what we print.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::RuntimeError;
use crate::edit::{Hook, HookStage};
use crate::error::{Result, reason};

/// Runs the hooks of one stage, in order, stopping at the first failure.
///
/// `default_env` is what a hook without `env` gets: nothing for the runtime's
/// stages, the container's own for startContainer, as runc.
///
/// # Errors
/// [`RuntimeError::Hook`] with stage, index and exit status.
pub fn run(
    stage: HookStage,
    hooks: &[Hook],
    state: &serde_json::Value,
    default_env: &[String],
) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        tracing::debug!(
            "running {} hook #{index} {}",
            stage.key(),
            hook.path.display()
        );
        one(hook, state, default_env).map_err(|reason| RuntimeError::Hook {
            stage: stage.key(),
            index,
            reason,
        })?;
    }
    Ok(())
}

/// The hooks of one stage, of the list a document gives.
#[must_use]
pub fn of_stage(all: &[(HookStage, Hook)], stage: HookStage) -> Vec<Hook> {
    all.iter()
        .filter(|(s, _)| *s == stage)
        .map(|(_, hook)| hook.clone())
        .collect()
}

fn one(hook: &Hook, state: &serde_json::Value, default_env: &[String]) -> Result<(), String> {
    let path = hook.path.display();
    let mut command = Command::new(&hook.path);
    match hook.args.split_first() {
        Some((first, rest)) => command.arg0(first).args(rest),
        None => command.arg0(&hook.path),
    };
    let env = if hook.env.is_empty() {
        default_env
    } else {
        &hook.env
    };
    let env: BTreeMap<&str, &str> = env
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .collect();
    let mut child = command
        .env_clear()
        .envs(env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("fork/exec {path}: {}", reason(&e)))?;
    let pidfd = i32::try_from(child.id())
        .ok()
        .and_then(|pid| crate::sys::process::pidfd_open(pid).ok())
        .ok_or_else(|| format!("{path}: cannot watch the hook"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook that does not read its state closes the pipe; that is its right.
        let _ = stdin.write_all(state.to_string().as_bytes());
    }
    let deadline = hook
        .timeout
        .map(|seconds| Instant::now() + Duration::from_secs(u64::from(seconds)));
    let mut said = [
        Said::new(child.stdout.take().map(OwnedFd::from)),
        Said::new(child.stderr.take().map(OwnedFd::from)),
    ];
    loop {
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(end) => {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    let _ = child.kill();
                    let _ = child.wait();
                    let limit = hook.timeout.unwrap_or(0);
                    return Err(format!("hook ran past specified timeout of {limit}.0s"));
                }
                let millis = left.as_millis().saturating_add(1);
                PollTimeout::try_from(u32::try_from(millis).unwrap_or(u32::MAX >> 1))
                    .unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        let open = said.iter().filter_map(|said| said.pipe.as_ref());
        fds.extend(open.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Err(nix::errno::Errno::EINTR) | Ok(0) => continue,
            Err(e) => return Err(format!("{path}: {}", reason(&e.into()))),
            Ok(_) => {}
        }
        let ended = fds[0].any().unwrap_or(false);
        for said in &mut said {
            said.read_what_is_there();
        }
        if ended {
            break;
        }
    }
    let status = child
        .wait()
        .map_err(|e| format!("{path}: {}", reason(&e)))?;
    if status.success() {
        return Ok(());
    }
    Err(failure(status, &said))
}

/// What a hook has printed.
struct Said {
    /// Until its end has been read.
    pipe: Option<File>,
    text: Vec<u8>,
}

impl Said {
    fn new(pipe: Option<OwnedFd>) -> Self {
        Self {
            pipe: pipe.map(File::from),
            text: Vec::new(),
        }
    }

    /// Never waits: a grandchild may hold the pipe for ever.
    fn read_what_is_there(&mut self) {
        const KEPT: usize = 4096;
        // As much as a pipe holds: a hook may print without end.
        const READS: usize = 16;
        let mut buffer = [0; 4096];
        for _ in 0..READS {
            let Some(pipe) = &mut self.pipe else { return };
            let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
            if !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1)) {
                return;
            }
            match pipe.read(&mut buffer) {
                Ok(0) | Err(_) => self.pipe = None,
                Ok(n) => {
                    let room = KEPT.saturating_sub(self.text.len());
                    self.text.extend_from_slice(&buffer[..n.min(room)]);
                }
            }
        }
    }

    /// On one line.
    fn line(&self) -> String {
        let text = String::from_utf8_lossy(&self.text);
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
        lines.collect::<Vec<_>>().join("; ")
    }
}

fn failure(status: ExitStatus, [stdout, stderr]: &[Said; 2]) -> String {
    format!(
        "{}, stdout: {}, stderr: {}",
        ending(status),
        stdout.line(),
        stderr.line()
    )
}

/// As Go words it: `exit status 3`, `signal: killed`.
fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    let Some(signal) = status.signal() else {
        return status.to_string().replace("exit status: ", "exit status ");
    };
    let name = match signal {
        libc::SIGHUP => "hangup",
        libc::SIGINT => "interrupt",
        libc::SIGQUIT => "quit",
        libc::SIGILL => "illegal instruction",
        libc::SIGTRAP => "trace/breakpoint trap",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "floating point exception",
        libc::SIGKILL => "killed",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGPIPE => "broken pipe",
        libc::SIGALRM => "alarm clock",
        libc::SIGTERM => "terminated",
        libc::SIGXCPU => "CPU time limit exceeded",
        libc::SIGXFSZ => "file size limit exceeded",
        libc::SIGSYS => "bad system call",
        other => return format!("signal: signal {other}"),
    };
    let core = if status.core_dumped() {
        " (core dumped)"
    } else {
        ""
    };
    format!("signal: {name}{core}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shell(script: &str, timeout: Option<u32>) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: vec!["A=1".into()],
            timeout,
        }
    }

    #[test]
    fn a_hook_sees_the_state_and_only_its_own_environment() {
        let tmp = tempfile::tempdir().unwrap();
        let out = tmp.path().join("out");
        let hook = shell(
            &format!("cat > {0}; env | sort >> {0}", out.display()),
            None,
        );
        run(HookStage::Prestart, &[hook], &json!({"id": "x"}), &[]).unwrap();
        let text = std::fs::read_to_string(out).unwrap();
        assert!(text.starts_with(r#"{"id":"x"}"#), "{text}");
        assert!(text.contains("A=1") && !text.contains("CARGO"), "{text}");
    }

    #[test]
    fn failures_name_stage_index_status_and_words() {
        let script = "echo what; echo why >&2; echo more; exit 3";
        let hooks = [shell("echo unheard", None), shell(script, None)];
        let error = run(HookStage::Poststart, &hooks, &json!({}), &[])
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "error running poststart hook #1: exit status 3, stdout: what; more, stderr: why"
        );
    }

    #[test]
    fn what_cannot_be_executed_is_named_as_go_does() {
        let mut hook = shell("true", None);
        hook.path = "/no/such".into();
        let error = run(HookStage::Prestart, &[hook], &json!({}), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "error running prestart hook #0: fork/exec /no/such: no such file or directory"
        );
    }

    #[test]
    fn signals_have_go_s_names() {
        for (signal, words) in [
            ("KILL", "killed"),
            ("SYS", "bad system call"),
            ("USR1", "signal 10"),
        ] {
            let script = format!("ulimit -c 0; kill -{signal} $$; sleep 60");
            let error = run(
                HookStage::StartContainer,
                &[shell(&script, None)],
                &json!({}),
                &[],
            )
            .unwrap_err()
            .to_string();
            assert_eq!(
                error,
                format!(
                    "error running startContainer hook #0: signal: {words}, stdout: , stderr: "
                )
            );
        }
    }

    #[test]
    fn a_hook_that_outlives_its_timeout_is_killed() {
        let error = run(
            HookStage::Prestart,
            &[shell("sleep 60", Some(1))],
            &json!({}),
            &[],
        );
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("ran past specified timeout")
        );
    }

    #[test]
    fn a_hook_that_prints_more_than_is_kept_is_read_on() {
        let script = "head -c 300000 /dev/zero | tr '\\0' x; exit 3";
        let error = run(
            HookStage::Prestart,
            &[shell(script, Some(30))],
            &json!({}),
            &[],
        );
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("error running prestart hook #0: exit status 3, stdout: xxx"));
        assert_eq!(error.matches('x').count(), 4096 + 1);
    }

    #[test]
    fn a_grandchild_that_keeps_stderr_does_not_hold_us() {
        let started = Instant::now();
        run(
            HookStage::Prestart,
            &[shell("sleep 30 & exit 0", None)],
            &json!({}),
            &[],
        )
        .unwrap();
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}
