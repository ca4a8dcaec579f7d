//! Limits as unit properties (systemd.resource-control(5)). Pure.
//!
//! The limits are written into the cgroup as well, since systemd has no words for
//! most of them. Those that it has it must be told, or it would write its own
//! over ours at the next reload. Which ones, and from which version on, is as in
//! runc, and so is the rounding of a quota to whole percents of a processor.

use super::error::SystemdError;
use super::message::Value;
use crate::cgroup::convert::v2::{cpu_weight, swap_max};
use crate::cgroup::resources::{Resources, set};

/// What systemd learned when.
const QUOTA_PERIOD: u32 = 242;
const CPUSET: u32 = 244;
const CPU_IDLE: u32 = 252;
const OOM_POLICY: u32 = 253;

/// The kernel's own period, µs.
const DEFAULT_PERIOD: u64 = 100_000;
/// systemd counts in whole percents: µs in a second.
const PERCENT: u64 = 10_000;

/// A property of a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// As in `MemoryMax`.
    pub name: String,
    /// Of the type that the property has.
    pub value: Value,
}

impl Property {
    /// A property.
    pub fn new(name: impl Into<String>, value: Value) -> Self {
        Self {
            name: name.into(),
            value,
        }
    }

    /// As an element of `a(sv)`.
    #[must_use]
    pub fn into_value(self) -> Value {
        Value::Struct(vec![
            Value::Str(self.name),
            Value::Variant(Box::new(self.value)),
        ])
    }
}

/// Limits in systemd's words, and what is to be written into the cgroup so that
/// both say the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Properties for `SetUnitProperties`.
    pub properties: Vec<Property>,
    /// The limits with the quota that systemd makes of it.
    pub resources: Resources,
}

/// Says limits as properties.
///
/// # Errors
/// A `unified` value or a list of processors that is none.
pub fn limits(resources: &Resources, v2: bool, version: u32) -> Result<Limits, SystemdError> {
    let mut limits = Limits {
        properties: Vec::new(),
        resources: resources.clone(),
    };
    if v2 {
        memory_v2(resources, &mut limits)?;
        weight_v2(resources, version, &mut limits);
    } else {
        limits.number("MemoryLimit", resources.memory.limit.map(unlimited));
        limits.number("CPUShares", set(&resources.cpu.shares));
        let weight = set(&resources.block_io.weight).map(u64::from);
        limits.number("BlockIOWeight", weight);
    }
    let cpu = &resources.cpu;
    let quota = quota(set(&cpu.quota), set(&cpu.period), version, &mut limits);
    if quota.is_some() {
        limits.resources.cpu.quota = quota;
    }
    // systemd takes no 0 here, and nor do we: it is 1.
    let pids = resources.pids.map(|limit| match limit {
        0 => 1,
        limit => unlimited(limit),
    });
    limits.push("TasksMax", pids);
    cpuset("AllowedCPUs", "cpus", &cpu.cpus, version, &mut limits)?;
    cpuset(
        "AllowedMemoryNodes",
        "mems",
        &cpu.mems,
        version,
        &mut limits,
    )?;
    if v2 {
        unified(resources, version, &mut limits)?;
    }
    Ok(limits)
}

/// What can only be said when the unit is started.
#[must_use]
pub fn at_start(resources: &Resources, version: u32) -> Vec<Property> {
    let group = resources
        .unified
        .iter()
        .find(|(file, _)| file == "memory.oom.group");
    match group.map(|(_, value)| value.trim()) {
        Some("0") if version >= OOM_POLICY => {
            vec![Property::new("OOMPolicy", Value::str("continue"))]
        }
        Some("1") if version >= OOM_POLICY => vec![Property::new("OOMPolicy", Value::str("kill"))],
        _ => Vec::new(),
    }
}

impl Limits {
    fn push(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.properties.push(Property::new(name, Value::U64(value)));
        }
    }

    /// As [`Limits::push`], where 0 is unset.
    fn number(&mut self, name: &str, value: Option<u64>) {
        self.push(name, value.filter(|v| *v != 0));
    }
}

/// systemd's infinity for what is negative.
fn unlimited(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn memory_v2(resources: &Resources, limits: &mut Limits) -> Result<(), SystemdError> {
    let memory = &resources.memory;
    limits.number("MemoryMax", memory.limit.map(unlimited));
    limits.number("MemoryLow", memory.reservation.map(unlimited));
    let swap = swap_max(
        set(&memory.swap).unwrap_or(0),
        set(&memory.limit).unwrap_or(0),
    )
    .map_err(|e| SystemdError::Limit(e.to_string()))?;
    let number = |text: String| match text.as_str() {
        "max" => u64::MAX,
        digits => digits.parse().unwrap_or(u64::MAX),
    };
    limits.push("MemorySwapMax", swap.map(number));
    Ok(())
}

fn weight_v2(resources: &Resources, version: u32, limits: &mut Limits) {
    // 0 is systemd's word for idle; there is none for its end.
    let idle = resources.cpu.idle == Some(1) && version >= CPU_IDLE;
    let shares = set(&resources.cpu.shares).map(cpu_weight);
    if idle && shares.is_some() {
        tracing::warn!(
            "linux.resources.cpu: unable to apply both shares and idle, shares are ignored"
        );
    }
    if idle {
        // The kernel refuses a weight for an idle cgroup.
        limits.resources.cpu.shares = None;
    }
    limits.push("CPUWeight", if idle { Some(0) } else { shares });
}

/// The quota as systemd will have it, where it is finite.
fn quota(
    quota: Option<i64>,
    period: Option<u64>,
    version: u32,
    limits: &mut Limits,
) -> Option<i64> {
    if version >= QUOTA_PERIOD {
        limits.push("CPUQuotaPeriodUSec", period);
    }
    let Some(micros) = quota.and_then(|q| u64::try_from(q).ok()).filter(|q| *q > 0) else {
        if quota.is_some() || period.is_some() {
            limits.push("CPUQuotaPerSecUSec", Some(u64::MAX));
        }
        return None;
    };
    let period = u128::from(period.unwrap_or(DEFAULT_PERIOD));
    let per_second = u128::from(micros) * 1_000_000 / period;
    let whole = per_second.next_multiple_of(PERCENT.into());
    limits.push("CPUQuotaPerSecUSec", Some(narrow(whole)));
    let micros = match whole == per_second {
        true => u128::from(micros),
        false => whole * period / 1_000_000,
    };
    Some(i64::try_from(micros).unwrap_or(i64::MAX))
}

fn narrow(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX - 1)
}

fn cpuset(
    property: &str,
    field: &str,
    list: &str,
    version: u32,
    limits: &mut Limits,
) -> Result<(), SystemdError> {
    if list.is_empty() || version < CPUSET {
        return Ok(());
    }
    let bits = bits(list).map_err(|reason| {
        SystemdError::Limit(format!(
            "linux.resources.cpu.{field} {list:?}: conversion error: {reason}"
        ))
    })?;
    limits
        .properties
        .push(Property::new(property, byte_array(&bits)));
    Ok(())
}

fn byte_array(bytes: &[u8]) -> Value {
    Value::Array("y".into(), bytes.iter().copied().map(Value::Byte).collect())
}

/// A list such as `1,3-5` as a mask, the lowest byte first.
fn bits(list: &str) -> Result<Vec<u8>, String> {
    /// More than any kernel has processors.
    const MAX: usize = 1 << 16;
    let mut mask = Vec::new();
    for range in list.split(',').map(str::trim).filter(|r| !r.is_empty()) {
        let number = |text: &str| {
            text.parse::<usize>()
                .ok()
                .filter(|n| *n < MAX)
                .ok_or_else(|| format!("invalid number {text:?}"))
        };
        let (start, end) = match range.split_once('-') {
            Some((start, end)) => (number(start)?, number(end)?),
            None => (number(range)?, number(range)?),
        };
        if start > end {
            return Err(format!("invalid range: {range}"));
        }
        if mask.len() <= end / 8 {
            mask.resize(end / 8 + 1, 0);
        }
        for bit in start..=end {
            mask[bit / 8] |= 1 << (bit % 8);
        }
    }
    if mask.is_empty() {
        return Err("empty value".to_owned());
    }
    Ok(mask)
}

/// The `unified` files that systemd has properties for. The others are only
/// written.
fn unified(resources: &Resources, version: u32, limits: &mut Limits) -> Result<(), SystemdError> {
    let idle = resources
        .unified
        .iter()
        .any(|(file, value)| file == "cpu.idle" && value.trim() == "1" && version >= CPU_IDLE);
    if idle {
        limits.resources.cpu.shares = None;
        let files = &mut limits.resources.unified;
        files.retain(|(file, _)| file != "cpu.weight");
    }
    for (file, value) in &resources.unified {
        let value = value.trim();
        let bad = |reason: &str| {
            SystemdError::Limit(format!(
                "unified resource {file:?} value {value:?}: {reason}"
            ))
        };
        if !file.contains('.') || file.starts_with('.') {
            return Err(SystemdError::Limit(format!(
                "unified resource {file:?} must be in the form CONTROLLER.PARAMETER"
            )));
        }
        let number = |text: &str| text.parse::<u64>().map_err(|e| bad(&e.to_string()));
        let or_max = |text: &str| match text {
            "max" => Ok(u64::MAX),
            _ => number(text),
        };
        let property = match file.as_str() {
            "memory.high" => "MemoryHigh",
            "memory.low" => "MemoryLow",
            "memory.min" => "MemoryMin",
            "memory.max" => "MemoryMax",
            "memory.swap.max" => "MemorySwapMax",
            "pids.max" => "TasksMax",
            "cpu.weight" | "cpu.idle" => "CPUWeight",
            "cpuset.cpus" => "AllowedCPUs",
            "cpuset.mems" => "AllowedMemoryNodes",
            "cpu.max" => {
                let mut words = value.split_whitespace();
                let (limit, period, rest) = (words.next(), words.next(), words.next());
                if rest.is_some() {
                    return Err(bad("must be a quota and a period"));
                }
                let limit = match limit {
                    None => return Err(bad("must be a quota and a period")),
                    Some("max") => None,
                    Some(text) => Some(text.parse::<i64>().map_err(|e| bad(&e.to_string()))?),
                };
                let period = period.map_or(Ok(DEFAULT_PERIOD), number)?;
                if period == 0 {
                    return Err(bad("the period cannot be 0"));
                }
                // Written as it stands, afterwards.
                quota(limit, Some(period), version, limits);
                continue;
            }
            _ => continue,
        };
        match file.as_str() {
            "cpu.idle" if idle => limits.push(property, Some(0)),
            "cpu.idle" => {}
            "cpu.weight" if idle => {
                tracing::warn!(
                    "unified: unable to apply both cpu.weight and cpu.idle, cpu.weight is ignored"
                );
            }
            "cpu.weight" => limits.push(property, Some(number(value)?)),
            "pids.max" => limits.push(property, Some(or_max(value)?.max(1))),
            "cpuset.cpus" | "cpuset.mems" => {
                if version >= CPUSET {
                    let mask = bits(value).map_err(|reason| bad(&reason))?;
                    limits
                        .properties
                        .push(Property::new(property, byte_array(&mask)));
                }
            }
            _ => limits.push(property, Some(or_max(value)?)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(resources: &serde_json::Value, v2: bool, version: u32) -> Vec<String> {
        let resources = Resources::parse(resources).unwrap();
        let all = limits(&resources, v2, version).unwrap();
        all.properties
            .iter()
            .map(|p| match &p.value {
                Value::U64(u64::MAX) => format!("{}=infinity", p.name),
                Value::U64(number) => format!("{}={number}", p.name),
                Value::Array(_, bytes) => {
                    let bytes = bytes.iter().map(|b| match b {
                        Value::Byte(b) => format!("{b:02x}"),
                        other => panic!("{other:?}"),
                    });
                    format!("{}={}", p.name, bytes.collect::<String>())
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn limits_of_version_2() {
        let resources = json!({
            "memory": {"limit": 1024, "reservation": 512, "swap": 3072},
            "cpu": {"shares": 1024, "quota": 5000, "period": 10_000, "cpus": "0-1,9", "mems": "0"},
            "pids": {"limit": 7}
        });
        assert_eq!(
            said(&resources, true, 252),
            [
                "MemoryMax=1024",
                "MemoryLow=512",
                "MemorySwapMax=2048",
                "CPUWeight=100",
                "CPUQuotaPeriodUSec=10000",
                "CPUQuotaPerSecUSec=500000",
                "TasksMax=7",
                "AllowedCPUs=0302",
                "AllowedMemoryNodes=01",
            ]
        );
        // What an old systemd does not know is only written.
        let old = said(&resources, true, 241);
        assert!(
            !old.iter()
                .any(|p| p.contains("Period") || p.contains("Allowed")),
            "{old:?}"
        );
    }

    #[test]
    fn limits_of_version_1() {
        let resources = json!({
            "memory": {"limit": -1}, "cpu": {"shares": 512}, "blockIO": {"weight": 100},
            "pids": {"limit": 0}
        });
        assert_eq!(
            said(&resources, false, 252),
            [
                "MemoryLimit=infinity",
                "CPUShares=512",
                "BlockIOWeight=100",
                "TasksMax=1"
            ]
        );
    }

    #[test]
    fn a_quota_is_rounded_up_to_what_systemd_keeps() {
        for (quota, period, want, kept) in [
            (3000, 10_000, "CPUQuotaPerSecUSec=300000", Some(3000)),
            // 33.4 % becomes 34 %.
            (3340, 10_000, "CPUQuotaPerSecUSec=340000", Some(3400)),
            (-1, 10_000, "CPUQuotaPerSecUSec=infinity", Some(-1)),
        ] {
            let value = json!({"cpu": {"quota": quota, "period": period}});
            assert!(
                said(&value, true, 252).contains(&want.to_owned()),
                "{quota}"
            );
            let resources = Resources::parse(&value).unwrap();
            let limits = limits(&resources, true, 252).unwrap();
            assert_eq!(limits.resources.cpu.quota, kept);
        }
        assert!(said(&json!({}), true, 252).is_empty());
    }

    #[test]
    fn idle_takes_the_place_of_shares() {
        let resources = json!({"cpu": {"idle": 1, "shares": 1024}});
        assert_eq!(said(&resources, true, 252), ["CPUWeight=0"]);
        assert_eq!(said(&resources, true, 251), ["CPUWeight=100"]);
        let back = json!({"cpu": {"idle": 0}});
        assert!(said(&back, true, 252).is_empty());
        for idle in [
            resources,
            json!({"cpu": {"shares": 1024}, "unified": {"cpu.idle": "1", "cpu.weight": "8"}}),
        ] {
            let resources = Resources::parse(&idle).unwrap();
            let written = limits(&resources, true, 252).unwrap().resources;
            assert_eq!(written.cpu.shares, None, "{idle}");
            let weight = |(file, _): &(String, String)| file == "cpu.weight";
            assert!(!written.unified.iter().any(weight), "{idle}");
            assert_eq!(limits(&resources, true, 251).unwrap().resources, resources);
        }
    }

    #[test]
    fn unified_files_have_properties_too() {
        let resources = json!({"unified": {
            "memory.max": "max", "memory.high": "99", "memory.swap.max": "5", "pids.max": "0",
            "cpu.max": "max 5000", "cpu.weight": "42", "cpuset.cpus": "3", "io.weight": "9"
        }});
        let mut got = said(&resources, true, 252);
        got.sort();
        assert_eq!(
            got,
            [
                "AllowedCPUs=08",
                "CPUQuotaPerSecUSec=infinity",
                "CPUQuotaPeriodUSec=5000",
                "CPUWeight=42",
                "MemoryHigh=99",
                "MemoryMax=infinity",
                "MemorySwapMax=5",
                "TasksMax=1",
            ]
        );
        for (file, value) in [
            ("memory", "1"),
            ("cpu.max", "x"),
            ("cpu.max", "1 0"),
            ("cpuset.cpus", ""),
            ("pids.max", "-1"),
        ] {
            let value = json!({"unified": {file: value}});
            let resources = Resources::parse(&value).unwrap();
            assert!(limits(&resources, true, 252).is_err(), "{value}");
        }
    }

    #[test]
    fn the_policy_for_want_of_memory_is_said_at_the_start() {
        let resources = Resources::parse(&json!({"unified": {"memory.oom.group": "1"}})).unwrap();
        let all = at_start(&resources, 253);
        assert_eq!(all, [Property::new("OOMPolicy", Value::str("kill"))]);
        assert!(at_start(&resources, 252).is_empty());
    }

    #[test]
    fn lists_of_processors() {
        for (list, want) in [
            ("0", Some(vec![1])),
            ("1,3-5", Some(vec![0b11_1010])),
            (" 8 , ", Some(vec![0, 1])),
            ("", None),
            ("5-3", None),
            ("a", None),
            ("99999999999", None),
        ] {
            assert_eq!(bits(list).ok(), want, "{list:?}");
        }
    }
}
