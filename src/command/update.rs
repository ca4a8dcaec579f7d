//! `update`: new limits for a running container.
//!
//! What is asked for comes from flags or from a file; what it does to the limits
//! that the container has is decided in [`crate::cgroup::resources`]. Device
//! access is never touched.

use std::io::{self, Read as _};

use serde::Deserialize as _;
use serde_json::de::{Deserializer, Read};
use serde_json::{Map, Value, json};

use super::context::Context;
use crate::cgroup::Cgroup;
use crate::cli::{self, Limits, Update};
use crate::error::{Error, Result};
use crate::host::bounded::{self, MAX_JSON};
use crate::runtime::RuntimeError;
use crate::runtime::resctrl::{self, Group};
use crate::runtime::state::{Status, Store};

/// `update`.
///
/// # Errors
/// The container does not run, or as [`Request::new`] and [`Request::apply`].
pub(super) fn run(context: &Context<'_>, arguments: &Update) -> Result<()> {
    let store = Store::new(context.root.path.clone());
    let id = arguments.id.as_str();
    // Before standard input is waited for, and that before others have to wait.
    store.load(id)?;
    let request = Request::new(arguments)?;
    let locked = store.lock(id)?;
    let mut state = locked.read()?;
    if state.status() == Status::Stopped {
        return Err(RuntimeError::NotRunning.into());
    }
    let cgroup = state.cgroup.as_mut().ok_or(RuntimeError::NotRunning)?;
    request.apply(cgroup, state.resctrl.as_ref())?;
    locked.write(&state)
}

/// What one `update` asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Like `linux.resources`; whatever is absent stays.
    pub resources: Value,
    /// The L3 cache schema.
    pub l3_cache: Option<String>,
    /// The memory bandwidth schema.
    pub memory_bandwidth: Option<String>,
}

impl Request {
    /// Reads the file or standard input that the arguments name; then other
    /// limits among the arguments do not count, as in runc.
    ///
    /// # Errors
    /// The file cannot be read, or is not JSON.
    pub fn new(arguments: &Update) -> Result<Self> {
        let resources = match &arguments.resources {
            Some(cli::Resources::Stdin) => {
                // A pipe need not end where the value does.
                let most = u64::try_from(MAX_JSON).unwrap_or(u64::MAX);
                let stdin = io::BufReader::new(io::stdin().lock().take(most));
                read(Deserializer::from_reader(stdin), "stdin".as_ref())?
            }
            Some(cli::Resources::File(path)) => {
                let bytes = bounded::read(path, MAX_JSON)?;
                read(Deserializer::from_slice(&bytes), path)?
            }
            None => from_limits(&arguments.limits),
        };
        let schema = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        Ok(Self {
            resources,
            l3_cache: schema(&arguments.l3_cache_schema),
            memory_bandwidth: schema(&arguments.mem_bw_schema),
        })
    }

    /// Sets the limits. `group` is the container's resctrl group, if its
    /// configuration has one. The caller stores `cgroup` afterwards.
    ///
    /// # Errors
    /// A limit is refused, or a schema has nowhere to go; then all limits are
    /// as they were.
    pub fn apply(&self, cgroup: &mut Cgroup, group: Option<&Group>) -> Result<()> {
        let resctrl = resctrl::mounted();
        let schemata = resctrl::schemata(
            resctrl.as_deref(),
            group,
            self.l3_cache.as_deref(),
            self.memory_bandwidth.as_deref(),
        )?;
        let before = cgroup.clone();
        cgroup.update(&self.resources)?;
        if let Some(schemata) = schemata
            && let Err(error) = schemata.write()
        {
            if let Err(again) = before.apply() {
                tracing::warn!("setting the old limits back failed too: {again}");
            }
            *cgroup = before;
            return Err(error);
        }
        Ok(())
    }
}

/// The first JSON value; what follows it is not looked at, so that a caller may
/// keep its end of a pipe open.
/// One JSON value; what follows it is not looked at, as in runc.
fn read<'de>(mut from: Deserializer<impl Read<'de>>, name: &std::path::Path) -> Result<Value> {
    let failed = |error| Error::io("read resources from", name, error);
    let value = Value::deserialize(&mut from).map_err(|error| failed(io::Error::other(error)))?;
    if value.is_object() || value.is_null() {
        Ok(value)
    } else {
        Err(failed(io::Error::other("expected an object")))
    }
}

/// The flags as a `linux.resources` object.
fn from_limits(limits: &Limits) -> Value {
    let object = |fields: &[(&str, Option<Value>)]| {
        let present = fields.iter().filter_map(|(key, value)| {
            let value = value.clone()?;
            Some(((*key).to_owned(), value))
        });
        Value::Object(present.collect::<Map<_, _>>())
    };
    let text = |value: &Option<String>| value.clone().map(Value::from);
    json!({
        "memory": object(&[
            ("limit", limits.memory.map(Value::from)),
            ("reservation", limits.memory_reservation.map(Value::from)),
            ("swap", limits.memory_swap.map(Value::from)),
            ("kernel", limits.kernel_memory.map(Value::from)),
            ("kernelTCP", limits.kernel_memory_tcp.map(Value::from)),
        ]),
        "cpu": object(&[
            ("shares", limits.cpu_share.map(Value::from)),
            ("quota", limits.cpu_quota.map(Value::from)),
            ("burst", limits.cpu_burst.map(Value::from)),
            ("period", limits.cpu_period.map(Value::from)),
            ("realtimeRuntime", limits.cpu_rt_runtime.map(Value::from)),
            ("realtimePeriod", limits.cpu_rt_period.map(Value::from)),
            ("cpus", text(&limits.cpuset_cpus)),
            ("mems", text(&limits.cpuset_mems)),
            ("idle", limits.cpu_idle.map(Value::from)),
        ]),
        "pids": object(&[("limit", limits.pids_limit.map(Value::from))]),
        "blockIO": object(&[
            ("weight", limits.blkio_weight.filter(|w| *w != 0).map(Value::from)),
        ]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::resources::Resources;

    #[test]
    fn every_flag_has_its_field() {
        let limits = Limits {
            blkio_weight: Some(100),
            cpu_period: Some(1),
            cpu_quota: Some(-1),
            cpu_burst: Some(2),
            cpu_share: Some(3),
            cpu_rt_period: Some(4),
            cpu_rt_runtime: Some(5),
            cpu_idle: Some(0),
            cpuset_cpus: Some("0".to_owned()),
            cpuset_mems: Some("1".to_owned()),
            memory: Some(6),
            memory_reservation: Some(7),
            memory_swap: Some(8),
            kernel_memory: Some(9),
            kernel_memory_tcp: Some(10),
            pids_limit: Some(0),
        };
        let got = Resources::parse(&from_limits(&limits)).unwrap();
        let cpu = &got.cpu;
        assert_eq!(
            (cpu.shares, cpu.quota, cpu.burst, cpu.period),
            (Some(3), Some(-1), Some(2), Some(1))
        );
        assert_eq!(
            (cpu.realtime_period, cpu.realtime_runtime, cpu.idle),
            (Some(4), Some(5), Some(0))
        );
        assert_eq!((cpu.cpus.as_str(), cpu.mems.as_str()), ("0", "1"));
        let memory = &got.memory;
        assert_eq!(
            (memory.limit, memory.reservation, memory.swap),
            (Some(6), Some(7), Some(8))
        );
        assert_eq!(got.ignored, ["memory.kernel", "memory.kernelTCP"]);
        assert_eq!((got.pids, got.block_io.weight), (Some(0), Some(100)));
    }

    #[test]
    fn no_flag_is_no_change() {
        let none = Resources::parse(&from_limits(&Limits::default())).unwrap();
        assert_eq!(none, Resources::default());
        let zero = Limits {
            blkio_weight: Some(0),
            ..Limits::default()
        };
        assert_eq!(Resources::parse(&from_limits(&zero)).unwrap(), none);
    }

    #[test]
    fn one_value_is_read_and_no_more() {
        let got = read(
            Deserializer::from_reader(&b"{\"pids\": {\"limit\": 5}} and more"[..]),
            "x".as_ref(),
        )
        .unwrap();
        assert_eq!(got, json!({"pids": {"limit": 5}}));
        for bad in [&b""[..], b"{", b"nonsense"] {
            let error = read(Deserializer::from_slice(bad), "/file".as_ref())
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("read resources from /file: "), "{error}");
        }
    }
}
