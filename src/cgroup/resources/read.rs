//! JSON to [`Resources`], with Go's idea of which key is which field.

use serde_json::{Map, Value};

use super::{Hugepages, InterfacePriority, Rdma, Resources, ThrottleDevice, WeightDevice};

/// `linux.resources` cannot be what was meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceError {
    /// The wrong JSON type, or a number that does not fit.
    #[error("{field}: expected {expected}, found {found}")]
    Type {
        /// Dotted path of the field.
        field: String,
        /// What the specification asks for.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// `unified` on version 1.
    #[error("invalid configuration: cannot use unified on cgroup v1")]
    UnifiedOnV1,
    /// A value that no kernel would take, in runc's words.
    #[error("{0}")]
    Value(String),
}

type Result<T> = std::result::Result<T, ResourceError>;

/// A JSON value and the dotted path it was found at.
struct Field<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Field<'a> {
    fn wrong<T>(&self, expected: &'static str) -> Result<T> {
        let found = match self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "a boolean".to_owned(),
            Value::Number(n) => n.to_string(),
            Value::String(_) => "a string".to_owned(),
            Value::Array(_) => "an array".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        };
        Err(ResourceError::Type {
            field: self.path.clone(),
            expected,
            found,
        })
    }

    /// Calls `each` with every key, lower case, that has a value.
    fn object(&self, mut each: impl FnMut(&str, Field<'a>) -> Result<()>) -> Result<()> {
        let map: &Map<String, Value> = match self.value {
            Value::Null => return Ok(()),
            Value::Object(map) => map,
            _ => return self.wrong("an object"),
        };
        for (key, value) in map {
            if !value.is_null() {
                let path = format!("{}.{key}", self.path);
                each(&key.to_ascii_lowercase(), Field { path, value })?;
            }
        }
        Ok(())
    }

    fn list<T>(&self, mut each: impl FnMut(Field<'a>) -> Result<T>) -> Result<Vec<T>> {
        let Value::Array(items) = self.value else {
            return self.wrong("an array");
        };
        let item = |(index, value)| {
            each(Field {
                path: format!("{}[{index}]", self.path),
                value,
            })
        };
        items.iter().enumerate().map(item).collect()
    }

    fn signed(&self) -> Result<i64> {
        match self.value.as_i64() {
            Some(number) => Ok(number),
            None => self.wrong("a 64-bit integer"),
        }
    }

    fn unsigned(&self) -> Result<u64> {
        match self.value.as_u64() {
            Some(number) => Ok(number),
            None => self.wrong("a 64-bit unsigned integer"),
        }
    }

    fn narrow<T: TryFrom<u64>>(&self, expected: &'static str) -> Result<T> {
        match self.value.as_u64().and_then(|n| T::try_from(n).ok()) {
            Some(number) => Ok(number),
            None => self.wrong(expected),
        }
    }

    fn u16(&self) -> Result<u16> {
        self.narrow("a 16-bit unsigned integer")
    }

    fn u32(&self) -> Result<u32> {
        self.narrow("a 32-bit unsigned integer")
    }

    fn boolean(&self) -> Result<bool> {
        match self.value {
            Value::Bool(yes) => Ok(*yes),
            _ => self.wrong("a boolean"),
        }
    }

    fn text(&self) -> Result<String> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            _ => self.wrong("a string"),
        }
    }
}

/// Adds what `value` says to `into`.
pub(super) fn read(value: &Value, into: &mut Resources) -> Result<()> {
    let root = Field {
        path: "linux.resources".to_owned(),
        value,
    };
    root.object(|key, field| match key {
        "memory" => memory(&field, into),
        "cpu" => cpu(&field, into),
        "pids" => field.object(|key, field| {
            if key == "limit" {
                into.pids = Some(field.signed()?);
            }
            Ok(())
        }),
        "blockio" => block_io(&field, into),
        "hugepagelimits" => {
            into.hugepages = field.list(|item| hugepages(&item))?;
            Ok(())
        }
        "network" => network(&field, into),
        "rdma" => rdma(&field, into),
        "unified" => unified(&field, into),
        _ => Ok(()),
    })
}

fn memory(field: &Field<'_>, into: &mut Resources) -> Result<()> {
    let memory = &mut into.memory;
    let ignored = &mut into.ignored;
    field.object(|key, field| {
        match key {
            "limit" => memory.limit = Some(field.signed()?),
            "reservation" => memory.reservation = Some(field.signed()?),
            "swap" => memory.swap = Some(field.signed()?),
            "swappiness" => memory.swappiness = Some(field.unsigned()?),
            "disableoomkiller" => memory.disable_oom_killer = Some(field.boolean()?),
            "checkbeforeupdate" => memory.check_before_update = Some(field.boolean()?),
            "kernel" => ignored.push("memory.kernel"),
            "kerneltcp" => ignored.push("memory.kernelTCP"),
            _ => {}
        }
        Ok(())
    })
}

fn cpu(field: &Field<'_>, into: &mut Resources) -> Result<()> {
    let cpu = &mut into.cpu;
    field.object(|key, field| {
        match key {
            "shares" => cpu.shares = Some(field.unsigned()?),
            "quota" => cpu.quota = Some(field.signed()?),
            "burst" => cpu.burst = Some(field.unsigned()?),
            "period" => cpu.period = Some(field.unsigned()?),
            "realtimeruntime" => cpu.realtime_runtime = Some(field.signed()?),
            "realtimeperiod" => cpu.realtime_period = Some(field.unsigned()?),
            "cpus" => cpu.cpus = field.text()?,
            "mems" => cpu.mems = field.text()?,
            "idle" => cpu.idle = Some(field.signed()?),
            _ => {}
        }
        Ok(())
    })
}

fn block_io(field: &Field<'_>, into: &mut Resources) -> Result<()> {
    let io = &mut into.block_io;
    field.object(|key, field| {
        match key {
            "weight" => io.weight = Some(field.u16()?),
            "leafweight" => io.leaf_weight = Some(field.u16()?),
            "weightdevice" => io.weight_device = field.list(|item| weight_device(&item))?,
            "throttlereadbpsdevice" => io.read_bps = field.list(|item| throttle(&item))?,
            "throttlewritebpsdevice" => io.write_bps = field.list(|item| throttle(&item))?,
            "throttlereadiopsdevice" => io.read_iops = field.list(|item| throttle(&item))?,
            "throttlewriteiopsdevice" => io.write_iops = field.list(|item| throttle(&item))?,
            _ => {}
        }
        Ok(())
    })
}

fn weight_device(field: &Field<'_>) -> Result<WeightDevice> {
    let mut device = WeightDevice {
        major: 0,
        minor: 0,
        weight: 0,
        leaf_weight: 0,
    };
    field.object(|key, field| {
        match key {
            "major" => device.major = field.signed()?,
            "minor" => device.minor = field.signed()?,
            "weight" => device.weight = field.u16()?,
            "leafweight" => device.leaf_weight = field.u16()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(device)
}

fn throttle(field: &Field<'_>) -> Result<ThrottleDevice> {
    let mut device = ThrottleDevice {
        major: 0,
        minor: 0,
        rate: 0,
    };
    field.object(|key, field| {
        match key {
            "major" => device.major = field.signed()?,
            "minor" => device.minor = field.signed()?,
            "rate" => device.rate = field.unsigned()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(device)
}

fn hugepages(field: &Field<'_>) -> Result<Hugepages> {
    let mut page_size = String::new();
    let mut limit = 0;
    field.object(|key, field| {
        match key {
            "pagesize" => page_size = field.text()?,
            "limit" => limit = field.unsigned()?,
            _ => {}
        }
        Ok(())
    })?;
    // It becomes part of a file's name.
    if page_size.is_empty() || !page_size.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(ResourceError::Value(format!(
            "{}.pageSize: {page_size:?} is not a page size such as \"2MB\"",
            field.path
        )));
    }
    Ok(Hugepages { page_size, limit })
}

fn network(field: &Field<'_>, into: &mut Resources) -> Result<()> {
    field.object(|key, field| {
        match key {
            "classid" => into.class_id = Some(field.u32()?),
            "priorities" => {
                into.priorities = field.list(|item| {
                    let mut entry = InterfacePriority {
                        name: String::new(),
                        priority: 0,
                    };
                    item.object(|key, field| {
                        match key {
                            "name" => entry.name = field.text()?,
                            "priority" => entry.priority = field.u32()?,
                            _ => {}
                        }
                        Ok(())
                    })?;
                    Ok(entry)
                })?;
            }
            _ => {}
        }
        Ok(())
    })
}

fn rdma(field: &Field<'_>, into: &mut Resources) -> Result<()> {
    let Value::Object(devices) = field.value else {
        return field.wrong("an object");
    };
    for (device, value) in devices {
        let mut entry = Rdma {
            device: device.clone(),
            hca_handles: None,
            hca_objects: None,
        };
        let limits = Field {
            path: format!("{}.{device}", field.path),
            value,
        };
        limits.object(|key, field| {
            match key {
                "hcahandles" => entry.hca_handles = Some(field.u32()?),
                "hcaobjects" => entry.hca_objects = Some(field.u32()?),
                _ => {}
            }
            Ok(())
        })?;
        into.rdma.retain(|old| old.device != *device);
        into.rdma.push(entry);
    }
    Ok(())
}

fn unified(field: &Field<'_>, into: &mut Resources) -> Result<()> {
    let Value::Object(files) = field.value else {
        return field.wrong("an object");
    };
    for (file, value) in files {
        let path = format!("{}.{file}", field.path);
        let content = Field { path, value }.text()?;
        into.unified.retain(|(old, _)| old != file);
        into.unified.push((file.clone(), content));
    }
    Ok(())
}
