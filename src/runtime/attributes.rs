//! What the kernel is told about a process besides its limits and credentials:
//! scheduler, I/O priority, processor affinity, personality and memory policy
//! (OCI `config.md`, "Process"; `config-linux.md`, "Personality" and "Memory
//! policy").
//!
//! Read and judged by the parent, before anything is made; applied by the process
//! itself, inside its cgroup and before it gives up what it may do.

use serde::Deserialize;
use serde_json::Value;

use super::RuntimeError;
use super::credentials::KindText;
use super::id_list::{IdSet, hexadecimal};
use super::process::ProcessSpec;
use crate::error::Result;
use crate::sys::schedule::{self, SchedulerAttributes};

/// `process.scheduler`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Scheduler {
    /// As in `SCHED_OTHER`.
    pub policy: String,
    /// Niceness, -20 to 19.
    pub nice: i32,
    /// For the real-time policies.
    pub priority: i32,
    /// As in `SCHED_FLAG_RESET_ON_FORK`.
    #[serde(deserialize_with = "super::process::null_is_empty")]
    pub flags: Vec<String>,
    /// SCHED_DEADLINE, in nanoseconds.
    pub runtime: u64,
    /// Likewise.
    pub deadline: u64,
    /// Likewise.
    pub period: u64,
}

/// `process.ioPriority`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct IoPriority {
    /// As in `IOPRIO_CLASS_BE`.
    pub class: String,
    /// 0, the highest, to 7.
    pub priority: i32,
}

/// `process.execCPUAffinity`, for `exec` alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CpuAffinity {
    /// From its first moment in the container's cgroup.
    pub initial: String,
    /// From right before the program.
    #[serde(rename = "final")]
    pub last: String,
}

/// `linux.memoryPolicy`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MemoryPolicy {
    mode: String,
    nodes: String,
    #[serde(deserialize_with = "super::process::null_is_empty")]
    flags: Vec<String>,
}

/// All of it, ready to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    scheduler: Option<SchedulerAttributes>,
    /// Whether the cgroup is bound to some processors, which is what the kernel
    /// most likely refuses a scheduler for.
    cpuset: bool,
    io_priority: Option<i32>,
    personality: Option<libc::c_ulong>,
    memory_policy: Option<(i32, IdSet)>,
    affinity: Affinity,
}

/// Where the process may run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Affinity {
    initial: Option<IdSet>,
    last: Option<IdSet>,
}

impl Attributes {
    /// Reads what `process` and `linux` of a configuration say. `origin` names the
    /// process in errors.
    ///
    /// # Errors
    /// A value out of range or unknown, in runc's words.
    pub fn new(process: &ProcessSpec, linux: &Value, origin: &str) -> Result<Self> {
        let of_process = |why: String| RuntimeError::Refused(format!("{origin}: {why}"));
        let affinity = match &process.exec_cpu_affinity {
            Some(spec) => affinity(spec).map_err(of_process)?,
            None => Affinity::default(),
        };
        Ok(Self {
            scheduler: process
                .scheduler
                .as_ref()
                .map(scheduler)
                .transpose()
                .map_err(of_process)?,
            cpuset: linux["resources"]["cpu"]["cpus"]
                .as_str()
                .is_some_and(|cpus| !cpus.is_empty()),
            io_priority: process
                .io_priority
                .as_ref()
                .map(io_priority)
                .transpose()
                .map_err(of_process)?,
            personality: personality(&linux["personality"])
                .map_err(|why| RuntimeError::config("linux.personality", why))?,
            memory_policy: memory_policy(&linux["memoryPolicy"])
                .map_err(|why| RuntimeError::config("linux.memoryPolicy", why))?,
            affinity,
        })
    }

    /// Without the affinity, which is for `exec` alone.
    #[must_use]
    pub fn for_init(self) -> Self {
        Self {
            affinity: Affinity::default(),
            ..self
        }
    }

    /// Sets where the process may run while it is set up: on what was asked for,
    /// else on everything that the cgroup allows, whatever the caller of the
    /// runtime was bound to.
    ///
    /// # Errors
    /// The kernel's, where something was asked for.
    pub fn apply_initial_affinity(&self) -> Result<(), String> {
        match &self.affinity.initial {
            Some(set) => schedule::set_affinity(set.words())
                .map_err(|e| format!("error setting initial CPU affinity: {}", e.kind_text()))?,
            // The final one alone replaces the caller's soon enough. Where the
            // kernel refuses, the caller's stays, which is allowed too.
            None if self.affinity.last.is_none() => {
                let _ = schedule::set_affinity(IdSet::all().words());
            }
            None => {}
        }
        Ok(())
    }

    /// Tells the kernel the rest.
    ///
    /// # Errors
    /// One line in runc's words.
    pub fn apply(&self) -> Result<(), String> {
        if let Some(set) = &self.affinity.last {
            schedule::set_affinity(set.words())
                .map_err(|e| format!("error setting final CPU affinity: {}", e.kind_text()))?;
        }
        if let Some(attributes) = &self.scheduler {
            schedule::set_scheduler(attributes).map_err(|e| match e.raw_os_error() {
                Some(libc::EPERM) if self.cpuset => {
                    "process scheduler can't be used together with AllowedCPUs".to_owned()
                }
                _ => format!("error setting scheduler: {}", e.kind_text()),
            })?;
        }
        if let Some(value) = self.io_priority {
            schedule::set_io_priority(value)
                .map_err(|e| format!("failed to set io priority: {}", e.kind_text()))?;
        }
        if let Some(domain) = self.personality {
            schedule::set_personality(domain)
                .map_err(|e| format!("failed to set personality: {}", e.kind_text()))?;
        }
        if let Some((mode, nodes)) = &self.memory_policy {
            schedule::set_memory_policy(*mode, nodes.words())
                .map_err(|e| format!("set_mempolicy: {}", e.kind_text()))?;
        }
        Ok(())
    }
}

/// The affinity of this process, as `0x3`, for the log.
#[must_use]
pub fn affinity_text() -> String {
    match schedule::affinity() {
        Ok(words) => hexadecimal(&words),
        Err(error) => error.kind_text(),
    }
}

fn affinity(spec: &CpuAffinity) -> Result<Affinity, String> {
    Ok(Affinity {
        initial: IdSet::parse(&spec.initial)
            .map_err(|e| format!("bad CPUAffinity.Initial: {e}"))?,
        last: IdSet::parse(&spec.last).map_err(|e| format!("bad CPUAffinity.Final: {e}"))?,
    })
}

fn scheduler(spec: &Scheduler) -> Result<SchedulerAttributes, String> {
    let policy = match spec.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        "" => return Err("scheduler policy is required".into()),
        other => return Err(format!("invalid scheduler policy: {other}")),
    };
    let (real_time, deadline) = (matches!(policy, 1 | 2), policy == 6);
    if matches!(policy, 0 | 3) && !(-20..=19).contains(&spec.nice) {
        return Err(format!(
            "invalid scheduler.nice: {} when scheduler.policy is {}",
            spec.nice, spec.policy
        ));
    }
    if spec.priority != 0 && !real_time {
        return Err(
            "scheduler.priority can only be specified for SchedFIFO or SchedRR policy".into(),
        );
    }
    if !deadline && (spec.runtime, spec.deadline, spec.period) != (0, 0, 0) {
        return Err(
            "scheduler runtime/deadline/period can only be specified for SchedDeadline policy"
                .into(),
        );
    }
    let mut flags = 0;
    for flag in &spec.flags {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return Err(format!("invalid scheduler flag: {other}")),
        };
    }
    Ok(SchedulerAttributes {
        policy,
        flags,
        nice: spec.nice,
        priority: u32::try_from(spec.priority)
            .map_err(|_| format!("invalid scheduler.priority: {}", spec.priority))?,
        runtime: spec.runtime,
        deadline: spec.deadline,
        period: spec.period,
    })
}

/// Class and level in the number that `ioprio_set(2)` takes.
fn io_priority(spec: &IoPriority) -> Result<i32, String> {
    if !(0..=7).contains(&spec.priority) {
        return Err(format!("invalid ioPriority.Priority: {}", spec.priority));
    }
    let class = match spec.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(format!("invalid ioPriority.Class: {other:?}")),
    };
    Ok(class << 13 | spec.priority)
}

fn personality(value: &Value) -> Result<Option<libc::c_ulong>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let flags = value["flags"].as_array().map_or(0, Vec::len);
    if flags > 0 {
        tracing::warn!("ignoring linux.personality.flags: no personality flag is supported");
    }
    match value["domain"].as_str().unwrap_or_default() {
        "LINUX" => Ok(Some(0)),
        "LINUX32" => Ok(Some(8)),
        other => Err(format!("invalid personality domain {other:?}")),
    }
}

/// Names of `linux.memoryPolicy.mode`, the kernel's numbers, and whether nodes must
/// be given (or must not, or may).
pub const MEMORY_MODES: &[(&str, i32, Option<bool>)] = &[
    ("MPOL_BIND", libc::MPOL_BIND, Some(true)),
    ("MPOL_DEFAULT", libc::MPOL_DEFAULT, Some(false)),
    ("MPOL_INTERLEAVE", libc::MPOL_INTERLEAVE, Some(true)),
    ("MPOL_LOCAL", libc::MPOL_LOCAL, Some(false)),
    ("MPOL_PREFERRED", libc::MPOL_PREFERRED, None),
    // Of linux/mempolicy.h, but not of libc.
    ("MPOL_PREFERRED_MANY", 5, Some(true)),
    ("MPOL_WEIGHTED_INTERLEAVE", 6, Some(true)),
];

/// Names of `linux.memoryPolicy.flags` and the kernel's bits.
pub const MEMORY_FLAGS: &[(&str, i32)] = &[
    ("MPOL_F_NUMA_BALANCING", libc::MPOL_F_NUMA_BALANCING),
    ("MPOL_F_RELATIVE_NODES", libc::MPOL_F_RELATIVE_NODES),
    ("MPOL_F_STATIC_NODES", libc::MPOL_F_STATIC_NODES),
];

fn memory_policy(value: &Value) -> Result<Option<(i32, IdSet)>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let spec =
        MemoryPolicy::deserialize(value).map_err(|e| format!("invalid memory policy: {e}"))?;
    let Some((_, mode, nodes_wanted)) = MEMORY_MODES.iter().find(|(name, ..)| *name == spec.mode)
    else {
        return Err(format!("invalid memory policy mode {:?}", spec.mode));
    };
    let nodes = IdSet::parse(&spec.nodes)
        .map_err(|e| format!("invalid memory policy nodes {:?}: {e}", spec.nodes))?
        .unwrap_or_default();
    let mut flags = 0;
    for flag in &spec.flags {
        let known = MEMORY_FLAGS.iter().find(|(name, _)| name == flag);
        let (_, bit) = known.ok_or_else(|| format!("invalid memory policy flag {flag:?}"))?;
        flags |= bit;
    }
    match (nodes_wanted, nodes.count()) {
        (Some(false), count @ 1..) => Err(format!(
            "memory policy mode requires 0 nodes but got {count}"
        )),
        (Some(true), 0) => {
            Err("memory policy mode requires at least one node but got 0".to_owned())
        }
        _ => Ok(Some((mode | flags, nodes))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(mut process: Value, linux: &Value) -> std::result::Result<Attributes, String> {
        process["args"] = json!(["x"]);
        process["cwd"] = "/".into();
        let spec =
            ProcessSpec::parse(&process, "config.json: process").map_err(|e| e.to_string())?;
        Attributes::new(&spec, linux, "config.json: process").map_err(|e| e.to_string())
    }

    fn of_process(process: Value) -> std::result::Result<Attributes, String> {
        read(process, &json!({}))
    }

    fn of_linux(linux: &Value) -> std::result::Result<Attributes, String> {
        read(json!({}), linux)
    }

    #[test]
    fn nothing_said_is_nothing_told() {
        assert_eq!(of_linux(&json!({})).unwrap(), Attributes::default());
    }

    #[test]
    fn schedulers_become_the_kernel_s_numbers() {
        let attributes = of_process(json!({"scheduler": {
            "policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"],
            "nice": 19, "runtime": 42000, "deadline": 100000, "period": 1000000
        }}))
        .unwrap();
        assert_eq!(
            attributes.scheduler,
            Some(SchedulerAttributes {
                policy: 6,
                flags: 5,
                nice: 19,
                priority: 0,
                runtime: 42_000,
                deadline: 100_000,
                period: 1_000_000,
            })
        );
    }

    #[test]
    fn values_of_process_that_make_no_sense_are_named() {
        for (process, words) in [
            (json!({"scheduler": {}}), "scheduler policy is required"),
            (
                json!({"scheduler": {"policy": "SCHED_X"}}),
                "invalid scheduler policy: SCHED_X",
            ),
            (
                json!({"scheduler": {"policy": "SCHED_BATCH", "nice": 20}}),
                "invalid scheduler.nice: 20 when scheduler.policy is SCHED_BATCH",
            ),
            (
                json!({"scheduler": {"policy": "SCHED_OTHER", "priority": 3}}),
                "scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
            ),
            (
                json!({"scheduler": {"policy": "SCHED_RR", "period": 3}}),
                "can only be specified for SchedDeadline policy",
            ),
            (
                json!({"scheduler": {"policy": "SCHED_RR", "flags": ["X"]}}),
                "invalid scheduler flag: X",
            ),
            (
                json!({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}),
                "invalid ioPriority.Priority: 8",
            ),
            (
                json!({"ioPriority": {"class": "X", "priority": 1}}),
                "invalid ioPriority.Class: \"X\"",
            ),
            (
                json!({"execCPUAffinity": {"initial": "a"}}),
                "bad CPUAffinity.Initial: \"a\" is not a number",
            ),
            (
                json!({"execCPUAffinity": {"final": "3-1"}}),
                "bad CPUAffinity.Final: invalid range: 3-1",
            ),
        ] {
            let error = of_process(process).unwrap_err();
            assert!(error.starts_with("config.json: process: "), "{error}");
            assert!(error.ends_with(words), "{error}");
        }
    }

    #[test]
    fn values_of_linux_that_make_no_sense_are_named() {
        let policy = |policy: Value| json!({"memoryPolicy": policy});
        for (linux, words) in [
            (policy(json!({})), "invalid memory policy mode \"\""),
            (
                policy(json!({"mode": "INTERLEAVE", "nodes": "0"})),
                "invalid memory policy mode \"INTERLEAVE\"",
            ),
            (
                policy(json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["badflag"]})),
                "invalid memory policy flag \"badflag\"",
            ),
            (
                policy(json!({"mode": "MPOL_DEFAULT", "nodes": "0-7"})),
                "memory policy mode requires 0 nodes but got 8",
            ),
            (
                policy(json!({"mode": "MPOL_BIND"})),
                "memory policy mode requires at least one node but got 0",
            ),
            (
                policy(json!({"mode": "MPOL_BIND", "nodes": "0-9876543210"})),
                "invalid memory policy nodes \"0-9876543210\": 9876543210: values larger than 65536 are not supported",
            ),
            (
                json!({"personality": {"domain": "BSD"}}),
                "invalid personality domain \"BSD\"",
            ),
        ] {
            let error = of_linux(&linux).unwrap_err();
            assert!(error.contains(words), "{error}");
            assert!(error.starts_with("config.json: linux."), "{error}");
        }
    }

    #[test]
    fn the_affinity_of_exec_is_not_for_init() {
        let attributes =
            of_process(json!({"execCPUAffinity": {"initial": "0", "final": "1"}})).unwrap();
        assert_ne!(attributes, Attributes::default());
        assert_eq!(attributes.for_init(), Attributes::default());
    }

    #[test]
    fn io_priorities_hold_class_and_level() {
        let attributes =
            of_process(json!({"ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4}}))
                .unwrap();
        assert_eq!(attributes.io_priority, Some(3 << 13 | 4));
    }
}
