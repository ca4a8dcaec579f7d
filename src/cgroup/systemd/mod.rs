//! The systemd driver: the container's cgroup is a scope (or slice) that systemd
//! made on request, over D-Bus.
//!
//! [`unit`], [`properties`], [`devices`], [`annotation`] and [`message`] are pure:
//! what is asked of systemd. [`bus`] carries it, [`keeper`] is the process that a
//! scope is made with. systemd is waited for, never polled; and it is told
//! everything that it would otherwise undo one day, device access most of all.

mod annotation;
mod bus;
mod devices;
mod error;
mod keeper;
mod message;
mod properties;
mod unit;

use std::path::PathBuf;

pub use annotation::properties as annotated;
pub use error::SystemdError;
pub use keeper::Keeper;
pub use properties::Property;
pub use unit::Unit;

use bus::Bus;
use message::Value;

use super::resources::Resources;
use crate::device::policy::{NodeKind, Policy};

/// What the systemd driver is told on top of limits.
#[derive(Debug, Clone, Copy)]
pub struct SystemdSpec<'a> {
    /// What the device filter allows; `None` where there can be no filter.
    pub devices: Option<&'a Policy>,
    /// The annotations of the configuration, for `org.systemd.property.*`.
    pub annotations: &'a [(&'a str, &'a str)],
}

/// A unit that is about to be started: checked, with nothing done yet.
#[derive(Debug)]
pub(super) struct Planned {
    pub unit: Unit,
    /// From the root of each hierarchy.
    pub cgroup: PathBuf,
    bus: Bus,
    properties: Vec<Property>,
}

impl Planned {
    pub(super) fn new(
        cgroups_path: Option<&str>,
        id: &str,
        user: bool,
        v2: bool,
        resources: &Resources,
        spec: &SystemdSpec<'_>,
    ) -> Result<Self, SystemdError> {
        if user && !v2 {
            return Err(SystemdError::RootlessV1);
        }
        let unit = Unit::new(cgroups_path, id, user)?;
        let annotated = annotated(spec.annotations)?;
        let mut bus = Bus::connect(user)?;
        let manager = match user {
            true => text(bus.property("ControlGroup")?),
            false => "/".to_owned(),
        };
        let cgroup = unit.cgroup(&manager)?;
        let version = version(&mut bus)?;
        let mut properties = base(&unit, id, v2);
        // A user's manager may not confine devices, and nor may we.
        if let Some(policy) = spec.devices.filter(|_| !user) {
            properties.extend(device_properties(policy, v2, version));
        }
        properties.extend(annotated);
        properties.extend(properties::at_start(resources, version));
        Ok(Self {
            unit,
            cgroup,
            bus,
            properties,
        })
    }

    /// Starts the unit. The scope lasts as long as the keeper or another process
    /// in it does.
    pub(super) fn start(mut self) -> Result<Option<Keeper>, SystemdError> {
        let name = self.unit.name.clone();
        let keeper = match self.unit.is_slice() {
            true => None,
            false => Some(Keeper::start()?),
        };
        if let Some(keeper) = &keeper {
            let pids = Value::Array("u".into(), vec![Value::U32(keeper.pid())]);
            self.properties.push(Property::new("PIDs", pids));
        }
        let body = vec![
            Value::str(&name),
            Value::str("replace"),
            list(self.properties),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        let mut started = self.bus.job("StartTransientUnit", body.clone(), &name);
        if matches!(&started, Err(error) if error.is(".UnitExists")) {
            if keeper.is_none() {
                // A slice is shared.
                return Ok(None);
            }
            // One of that name that failed and was left.
            let _ = self
                .bus
                .manager("ResetFailedUnit", vec![Value::str(&name)], &name);
            started = self.bus.job("StartTransientUnit", body, &name);
        }
        let failed = match started? {
            Some(result) if result == "done" => return Ok(keeper),
            Some(result) => SystemdError::Job {
                unit: name.clone(),
                result,
            },
            None => SystemdError::Timeout {
                action: "create",
                unit: name.clone(),
            },
        };
        let _ = self
            .bus
            .manager("ResetFailedUnit", vec![Value::str(&name)], &name);
        Err(failed)
    }
}

impl Unit {
    /// Tells systemd of limits; returns them as they are to be written.
    pub(super) fn set_limits(
        &self,
        resources: &Resources,
        v2: bool,
    ) -> Result<Resources, SystemdError> {
        let mut bus = Bus::connect(self.user)?;
        let limits = properties::limits(resources, v2, version(&mut bus)?)?;
        if !limits.properties.is_empty() {
            self.set(&mut bus, limits.properties)?;
        }
        Ok(limits.resources)
    }

    /// Tells systemd what the device filter allows from now on.
    pub(super) fn set_devices(&self, policy: &Policy, v2: bool) -> Result<(), SystemdError> {
        if self.user {
            return Ok(());
        }
        let mut bus = Bus::connect(self.user)?;
        let version = version(&mut bus)?;
        self.set(&mut bus, device_properties(policy, v2, version))
    }

    fn set(&self, bus: &mut Bus, properties: Vec<Property>) -> Result<(), SystemdError> {
        // Runtime: gone with the unit.
        let body = vec![Value::str(&self.name), Value::Bool(true), list(properties)];
        bus.manager("SetUnitProperties", body, &self.name).map(drop)
    }

    /// Stops the unit and lets systemd forget it. One that is not there is no
    /// error.
    pub(super) fn stop(&self) -> Result<(), SystemdError> {
        let mut bus = Bus::connect(self.user)?;
        let body = vec![Value::str(&self.name), Value::str("replace")];
        match bus.job("StopUnit", body, &self.name) {
            Ok(Some(result)) if result != "done" => {
                tracing::warn!("systemd unit {}: stop: {result}", self.name);
            }
            Ok(Some(_)) => {}
            Ok(None) => {
                return Err(SystemdError::Timeout {
                    action: "remove",
                    unit: self.name.clone(),
                });
            }
            Err(error) if error.is(".NoSuchUnit") => {}
            Err(error) => return Err(error),
        }
        match bus.manager("ResetFailedUnit", vec![Value::str(&self.name)], &self.name) {
            Err(error) if !error.is(".NoSuchUnit") => Err(error),
            _ => Ok(()),
        }
    }

    /// Has systemd move a process into the unit's cgroup, or one below it.
    pub(super) fn attach(&self, below: &str, pid: i32) -> Result<(), SystemdError> {
        let mut bus = Bus::connect(self.user)?;
        let body = vec![
            Value::str(&self.name),
            Value::str(below),
            Value::Array("u".into(), vec![Value::U32(pid.unsigned_abs())]),
        ];
        bus.manager("AttachProcessesToUnit", body, &self.name)
            .map(drop)
    }
}

/// What every unit of a container has, as runc makes them.
fn base(unit: &Unit, id: &str, v2: bool) -> Vec<Property> {
    let mut all = vec![Property::new(
        "Description",
        Value::Str(format!("kusabi container {id}")),
    )];
    if unit.is_slice() {
        let wants = Value::Array("s".into(), vec![Value::str(&unit.slice)]);
        all.push(Property::new("Wants", wants));
    } else {
        all.push(Property::new("Slice", Value::str(&unit.slice)));
        all.push(Property::new("Delegate", Value::Bool(true)));
    }
    let io = if v2 {
        "IOAccounting"
    } else {
        "BlockIOAccounting"
    };
    for accounting in ["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"] {
        all.push(Property::new(accounting, Value::Bool(true)));
    }
    all.push(Property::new("DefaultDependencies", Value::Bool(false)));
    all
}

fn device_properties(policy: &Policy, v2: bool, version: u32) -> Vec<Property> {
    let table = std::cell::OnceCell::new();
    let group = |kind: NodeKind, major: u32| {
        let text =
            table.get_or_init(|| std::fs::read_to_string("/proc/devices").unwrap_or_default());
        devices::group_of(text, kind, major)
    };
    let said = devices::properties(policy, v2, version, &group);
    if !said.lost.is_empty() {
        tracing::warn!(
            "systemd has no words for a part of the device rules and will take it away when it reloads: {}",
            said.lost.join(", ")
        );
    }
    said.properties
}

fn version(bus: &mut Bus) -> Result<u32, SystemdError> {
    Ok(unit::version(&text(bus.property("Version")?)))
}

fn text(value: Value) -> String {
    match value {
        Value::Str(text) => text,
        _ => String::new(),
    }
}

fn list(properties: Vec<Property>) -> Value {
    let items = properties.into_iter().map(Property::into_value).collect();
    Value::Array("(sv)".into(), items)
}
