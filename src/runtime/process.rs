//! `process` of the configuration (OCI `config.md`, "Process"), typed.
//!
//! Read from the effective document, or from `exec --process FILE`. Holds what
//! [`tail`](super::tail) and [`birth`](super::birth) do themselves; what
//! libcontainer does is left in its own copy of the document.

use serde::Deserialize;
use serde_json::Value;

use super::RuntimeError;
use super::attributes::{CpuAffinity, IoPriority, Scheduler};
use super::typed;
use crate::error::Result;

/// The program of a container, or of one `exec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProcessSpec {
    /// Whether it gets a terminal of its own.
    pub terminal: bool,
    /// Initial terminal size.
    pub console_size: Option<ConsoleSize>,
    /// Who it runs as.
    pub user: User,
    /// `argv`.
    pub args: Vec<String>,
    /// `NAME=value` entries.
    #[serde(deserialize_with = "null_is_empty")]
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// Capability sets by name; absent keeps none, as runc.
    pub capabilities: Option<CapabilityNames>,
    /// Resource limits.
    #[serde(deserialize_with = "null_is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// AppArmor profile.
    pub apparmor_profile: String,
    /// `/proc/PID/oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// SELinux label of the process.
    pub selinux_label: String,
    /// How the kernel schedules it.
    pub scheduler: Option<Scheduler>,
    /// How its I/O is scheduled.
    pub io_priority: Option<IoPriority>,
    /// Where it may run, if it is of `exec`.
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// Terminal size in characters.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// `process.user`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(deserialize_with = "null_is_empty")]
    pub additional_gids: Vec<u32>,
}

/// `process.capabilities`, by name.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CapabilityNames {
    /// What may ever be had.
    #[serde(deserialize_with = "null_is_empty")]
    pub bounding: Vec<String>,
    /// What is in force.
    #[serde(deserialize_with = "null_is_empty")]
    pub effective: Vec<String>,
    /// What may be put in force.
    #[serde(deserialize_with = "null_is_empty")]
    pub permitted: Vec<String>,
    /// What may be passed on to programs that want it.
    #[serde(deserialize_with = "null_is_empty")]
    pub inheritable: Vec<String>,
    /// What is passed on to all programs.
    #[serde(deserialize_with = "null_is_empty")]
    pub ambient: Vec<String>,
}

/// One resource limit.
#[derive(Debug, Clone, Deserialize)]
pub struct Rlimit {
    /// As in `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Hard limit.
    pub hard: u64,
    /// Soft limit.
    pub soft: u64,
}

impl Rlimit {
    /// The kernel's number (`asm-generic/resource.h`).
    ///
    /// # Errors
    /// An unknown name, in runc's words.
    pub fn resource(&self) -> Result<u32> {
        let resource = match self.kind.as_str() {
            "RLIMIT_CPU" => libc::RLIMIT_CPU,
            "RLIMIT_FSIZE" => libc::RLIMIT_FSIZE,
            "RLIMIT_DATA" => libc::RLIMIT_DATA,
            "RLIMIT_STACK" => libc::RLIMIT_STACK,
            "RLIMIT_CORE" => libc::RLIMIT_CORE,
            "RLIMIT_RSS" => libc::RLIMIT_RSS,
            "RLIMIT_NPROC" => libc::RLIMIT_NPROC,
            "RLIMIT_NOFILE" => libc::RLIMIT_NOFILE,
            "RLIMIT_MEMLOCK" => libc::RLIMIT_MEMLOCK,
            "RLIMIT_AS" => libc::RLIMIT_AS,
            "RLIMIT_LOCKS" => libc::RLIMIT_LOCKS,
            "RLIMIT_SIGPENDING" => libc::RLIMIT_SIGPENDING,
            "RLIMIT_MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
            "RLIMIT_NICE" => libc::RLIMIT_NICE,
            "RLIMIT_RTPRIO" => libc::RLIMIT_RTPRIO,
            "RLIMIT_RTTIME" => libc::RLIMIT_RTTIME,
            other => {
                return Err(RuntimeError::config(
                    "process.rlimits",
                    format!("wrong rlimit value: {other}"),
                )
                .into());
            }
        };
        Ok(resource)
    }
}

/// The members that are objects.
const OBJECTS: &[&str] = &[
    "user",
    "consoleSize",
    "capabilities",
    "scheduler",
    "ioPriority",
    "execCPUAffinity",
];

impl ProcessSpec {
    /// Reads a `process` object. `origin` names it in errors, as in
    /// `config.json: process` or the file of `exec --process`.
    ///
    /// # Errors
    /// A field of the wrong type; no arguments.
    pub fn parse(value: &Value, origin: &str) -> Result<Self> {
        // A list would be read as an object's members in order.
        for field in OBJECTS {
            if value[field].is_array() {
                let joint = typed::joint(origin);
                return Err(RuntimeError::Refused(format!(
                    "{origin}{joint}{field}: invalid type: sequence, expected an object"
                ))
                .into());
            }
        }
        let spec: Self = typed::read(value, origin)?;
        spec.validate(origin)?;
        Ok(spec)
    }

    /// What runc's validation refuses.
    ///
    /// # Errors
    /// No arguments, a relative or magic working directory, NUL bytes.
    pub fn validate(&self, origin: &str) -> Result<()> {
        let refuse = |what: String| Err(RuntimeError::Refused(format!("{origin}: {what}")).into());
        if self.args.is_empty() || self.args[0].is_empty() {
            return refuse("args must not be empty".into());
        }
        if let Some(arg) = self.args.iter().find(|a| a.contains('\0')) {
            return refuse(format!("args: {arg:?} contains a nul byte"));
        }
        if !self.cwd.starts_with('/') {
            return refuse(format!("cwd must be an absolute path, not {:?}", self.cwd));
        }
        for rlimit in &self.rlimits {
            if rlimit.resource().is_err() {
                let joint = typed::joint(origin);
                return Err(RuntimeError::Refused(format!(
                    "{origin}{joint}rlimits: wrong rlimit value: {}",
                    rlimit.kind
                ))
                .into());
            }
        }
        Ok(())
    }
}

/// What a process of `exec --process` has from the container where it says nothing
/// itself, as with runc: what confines it above all.
const INHERITED: [&str; 8] = [
    "capabilities",
    "apparmorProfile",
    "selinuxLabel",
    "rlimits",
    "ioPriority",
    "scheduler",
    "execCPUAffinity",
    "oomScoreAdj",
];

/// Fills in what `process` leaves to the container's own.
#[must_use]
pub fn inherit(mut process: Value, container: &Value) -> Value {
    let says_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    for field in INHERITED {
        if says_nothing(&process[field]) && !says_nothing(&container[field]) {
            process[field] = container[field].clone();
        }
    }
    let umask = &container["user"]["umask"];
    // Of another type, it is refused when it is read.
    let takes = process.get("user").is_none_or(Value::is_object);
    if takes && process["user"]["umask"].is_null() && !umask.is_null() {
        process["user"]["umask"] = umask.clone();
    }
    process
}

/// Go writes `null` for a list without elements.
pub(super) fn null_is_empty<'de, D, T>(deserializer: D) -> std::result::Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn go_writes_null_for_empty_lists() {
        let spec = ProcessSpec::parse(
            &json!({"args": ["x"], "cwd": "/", "env": null, "rlimits": null,
                    "user": {"uid": 1, "gid": 2, "additionalGids": null}}),
            "process",
        )
        .unwrap();
        assert!(spec.env.is_empty() && spec.user.additional_gids.is_empty());
        assert_eq!(spec.user.uid, 1);
    }

    #[test]
    fn what_exec_does_not_say_is_the_container_s() {
        let container = json!({
            "capabilities": {"bounding": ["CAP_CHOWN"]}, "apparmorProfile": "tight",
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1, "soft": 1}],
            "scheduler": {"policy": "SCHED_BATCH"}, "oomScoreAdj": 100, "env": ["A=1"],
            "noNewPrivileges": true, "user": {"uid": 3, "umask": 63},
        });
        let bare = inherit(json!({"args": ["x"], "rlimits": []}), &container);
        for field in [
            "capabilities",
            "apparmorProfile",
            "rlimits",
            "scheduler",
            "oomScoreAdj",
        ] {
            assert_eq!(bare[field], container[field], "{field}");
        }
        assert_eq!(bare["user"], json!({"umask": 63}));
        for field in ["env", "noNewPrivileges"] {
            assert!(bare[field].is_null(), "{field} is the process's own");
        }
        let own = json!({
            "capabilities": {}, "apparmorProfile": "other", "oomScoreAdj": 0,
            "user": {"uid": 1, "umask": 0},
        });
        let filled = inherit(own.clone(), &container);
        for field in ["capabilities", "apparmorProfile", "oomScoreAdj", "user"] {
            assert_eq!(filled[field], own[field], "{field}");
        }
    }

    #[test]
    fn bad_values_are_named() {
        for (value, words) in [
            (json!({"args": [], "cwd": "/"}), "args must not be empty"),
            (
                json!({"args": ["x"], "cwd": "a"}),
                "cwd must be an absolute path",
            ),
            (
                json!({"args": ["x"], "cwd": "/", "rlimits": [{"type": "RLIMIT_X", "hard": 1, "soft": 1}]}),
                "wrong rlimit value: RLIMIT_X",
            ),
            (json!({"args": 3, "cwd": "/"}), "invalid type"),
        ] {
            let error = ProcessSpec::parse(&value, "config.json: process")
                .unwrap_err()
                .to_string();
            assert!(error.contains(words), "{error}");
            assert!(!error.contains('\n'));
        }
    }
}
