//! From bytes to a [`ServiceFile`]: the tree, the check against the table, and
//! then values, which nothing can be wrong with any more.

use std::path::PathBuf;
use std::rc::Rc;

use super::capability::Capability;
use super::check::{boolean, check, integer, scalar};
use super::file::{
    Command, Count, Device, Distributed, Gpu, Resources, Service, ServiceFile, Sharing, Storage,
    StorageKind,
};
use super::table::{FILE, Object, Shape};
use super::{quantity, rules};
use crate::edit::Access;
use crate::yaml::{Node, Position, Problem, Report, Trail, Value, parse};

/// Far above any real file.
const MAX_BYTES: usize = 4 << 20;

impl ServiceFile {
    /// Reads a service file.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the file; at least one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<Problem>> {
        let whole = |at, reason: String| {
            vec![Problem {
                at,
                field: String::new(),
                reason,
                hint: None,
            }]
        };
        if bytes.len() > MAX_BYTES {
            let reason = format!("{} bytes, at most {MAX_BYTES} are read", bytes.len());
            return Err(whole(Position::START, reason));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|_| whole(Position::START, "not UTF-8".to_owned()))?;
        let root = parse(text)
            .map_err(|error| whole(error.at, error.reason))?
            .ok_or_else(|| whole(Position::START, "the file is empty".to_owned()))?;
        let report = Report::default();
        check(&root, &Shape::Object(&FILE), &Trail::default(), &report);
        let problems = report.into_problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let file = read(&View::new(&root, &FILE));
        let report = Report::default();
        rules::check(&file, &root, &report);
        let problems = report.into_problems();
        if problems.is_empty() {
            Ok(file)
        } else {
            Err(problems)
        }
    }
}

/// A map that the check has passed. A key that the table does not have reads as
/// absent, whatever the file says: the check has refused it.
struct View<'n> {
    node: &'n Node,
    object: &'static Object,
}

impl<'n> View<'n> {
    fn new(node: &'n Node, object: &'static Object) -> Self {
        Self { node, object }
    }

    fn get(&self, key: &str) -> Option<(&'n Node, &'static Shape)> {
        let field = self.object.fields.iter().find(|field| field.key == key)?;
        let Value::Map(entries) = &self.node.value else {
            return None;
        };
        let entry = entries.iter().find(|entry| entry.key == key)?;
        Some((&entry.node, &field.shape))
    }

    fn text(&self, key: &str) -> Option<String> {
        scalar(self.get(key)?.0).map(str::to_owned)
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    fn boolean(&self, key: &str) -> Option<bool> {
        boolean(self.get(key)?.0)
    }

    fn integer<T: TryFrom<i64>>(&self, key: &str) -> Option<T> {
        T::try_from(integer(self.get(key)?.0)?).ok()
    }

    fn bytes(&self, key: &str) -> Option<i64> {
        quantity::bytes(scalar(self.get(key)?.0)?).ok()
    }

    fn items(&self, key: &str) -> Option<&'n [Rc<Node>]> {
        match &self.get(key)?.0.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    fn texts(&self, key: &str) -> Vec<String> {
        let items = self.items(key).unwrap_or_default().iter();
        items
            .filter_map(|item| scalar(item))
            .map(str::to_owned)
            .collect()
    }

    fn object(&self, key: &str) -> Option<Self> {
        match self.get(key)? {
            (node, Shape::Object(object)) => Some(Self { node, object }),
            _ => None,
        }
    }

    /// The maps of a list.
    fn objects(&self, key: &str) -> Vec<Self> {
        let (Some(items), Some((_, Shape::List(Shape::Object(object))))) =
            (self.items(key), self.get(key))
        else {
            return Vec::new();
        };
        items.iter().map(|node| Self { node, object }).collect()
    }

    /// The entries of a map with free keys, each read by `read`.
    fn map<T>(
        &self,
        key: &str,
        read: impl Fn(&'n Node, &'static Shape) -> Option<T>,
    ) -> Vec<(String, T)> {
        let Some((node, Shape::Map(_, shape))) = self.get(key) else {
            return Vec::new();
        };
        let Value::Map(entries) = &node.value else {
            return Vec::new();
        };
        entries
            .iter()
            .filter_map(|entry| Some((entry.key.clone(), read(&entry.node, shape)?)))
            .collect()
    }
}

fn read(view: &View<'_>) -> ServiceFile {
    ServiceFile {
        deployment: view.text("deployment").unwrap_or_default(),
        services: view.map("services", |node, shape| match shape {
            Shape::Object(object) => Some(service(&View { node, object })),
            _ => None,
        }),
    }
}

fn service(view: &View<'_>) -> Service {
    let command = view.object("command").map(|view| Command {
        entrypoint: view.texts("entrypoint"),
        args: view.texts("args"),
        workdir: view.text("workdir"),
    });
    let resources = view.object("resources").map(|view| Resources {
        cpu: view.integer("cpu"),
        memory: view.bytes("memory"),
        gpu: view.object("gpu").map(|view| gpu(&view)),
    });
    Service {
        rtype: view.text("rtype"),
        endpoints: view.items("endpoints").unwrap_or_default().len(),
        image: view.object("image").and_then(|view| view.text("name")),
        command: command.unwrap_or_default(),
        env: view.map("env", |node, _| scalar(node).map(str::to_owned)),
        resources: resources.unwrap_or_default(),
        storage: view.objects("storage").iter().filter_map(storage).collect(),
        devices: view.objects("devices").iter().filter_map(device).collect(),
        capabilities: view.items("capabilities").map(|_| {
            let mut all: Vec<Capability> = view
                .texts("capabilities")
                .iter()
                .filter_map(|name| Capability::parse(name).ok())
                .collect();
            all.sort();
            all.dedup();
            all
        }),
        privileged: view.boolean("privileged").unwrap_or_default(),
        host_network: view.boolean("host_network").unwrap_or_default(),
        hostname: view.text("hostname"),
        cgroup_parent: view.text("cgroup_parent"),
    }
}

fn gpu(view: &View<'_>) -> Gpu {
    let count = match view.text("count").as_deref() {
        Some("all") => Count::All,
        Some(number) => Count::Some(number.parse().unwrap_or(1)),
        None => Count::Some(1),
    };
    let sharing = match view.text("sharing").as_deref() {
        Some("mps") => Some(Sharing::Mps {
            pipe_dir: view.path("mps_pipe_dir"),
            log_dir: view.path("mps_log_dir"),
            shm_dir: view.path("mps_shm_dir"),
            active_thread_percentage: view.integer("mps_active_thread_percentage"),
            pinned_memory_limit: view
                .text("mps_pinned_memory_limit")
                .and_then(|text| quantity::pinned(&text).ok()),
        }),
        Some("time-slice") => Some(Sharing::TimeSlice {
            index: view.integer("time_slice_index").unwrap_or_default(),
            config: view.path("time_slicing_config_path"),
        }),
        _ => None,
    };
    Gpu {
        count,
        vendor: view.text("vendor"),
        sharing,
        distributed: view.object("distributed").map(|view| Distributed {
            backend: view.text("backend"),
            master_addr: view.text("master_addr"),
            master_port: view.integer("master_port"),
            world_size: view.integer("world_size"),
            rank: view.integer("rank"),
            local_rank: view.integer("local_rank"),
            interface: view.text("interface"),
        }),
    }
}

fn storage(view: &View<'_>) -> Option<Storage> {
    let kind = match view.text("type")?.as_str() {
        "bind" => StorageKind::Bind {
            source: view.path("source")?,
        },
        "named" => StorageKind::Named {
            name: view.text("name")?,
        },
        "anonymous" => StorageKind::Anonymous,
        "tmpfs" => StorageKind::Tmpfs {
            size: view.bytes("size"),
            mode: view
                .text("mode")
                .and_then(|text| quantity::mode(&text).ok()),
        },
        _ => StorageKind::S3 {
            bucket: view.text("bucket")?,
            prefix: view.text("prefix"),
            endpoint: view.text("endpoint"),
            credentials: view.text("credentials"),
        },
    };
    Some(Storage {
        kind,
        target: view.path("target")?,
        readonly: view.boolean("readonly").unwrap_or_default(),
        tier: view.text("tier"),
    })
}

fn device(view: &View<'_>) -> Option<Device> {
    let parts = [
        ("read", Access::READ),
        ("write", Access::WRITE),
        ("mknod", Access::MKNOD),
    ];
    let said: Vec<(bool, Access)> = parts
        .iter()
        .filter_map(|(key, access)| Some((view.boolean(key)?, *access)))
        .collect();
    let mut access: Access = said
        .iter()
        .filter(|(allowed, _)| *allowed)
        .map(|(_, access)| *access)
        .collect();
    if said.is_empty() {
        access = Access::READ | Access::WRITE;
    }
    Some(Device {
        path: view.path("path")?,
        access,
    })
}
