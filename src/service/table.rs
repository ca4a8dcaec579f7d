//! The one table of the service file's fields.
//!
//! The check of a file, the suggestions for misspelt keys and the JSON Schema
//! all read it; `decode` may read no field that is not in it.

use super::form::{self, Form};

/// A map with a fixed set of keys.
pub struct Object {
    /// What it is called in the schema's definitions.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Its keys.
    pub fields: &'static [Field],
    /// The key whose word decides which of the others may and must be there.
    pub kinds: Option<Kinds>,
}

/// One key of an [`Object`].
pub struct Field {
    /// As written.
    pub key: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// What its value is.
    pub shape: Shape,
    /// Whether it must be there.
    pub required: bool,
}

/// What a value may be.
pub enum Shape {
    /// A map with these keys.
    Object(&'static Object),
    /// A map from names of one form to values of one shape.
    Map(&'static Form, &'static Shape),
    /// A list.
    List(&'static Shape),
    /// A string of this form.
    Text(&'static Form),
    /// One of these words.
    Word(&'static [&'static str]),
    /// `true` or `false`.
    Boolean,
    /// A whole number from the first to the second.
    Integer(i64, i64),
    /// Whatever it is: accepted and not interpreted.
    Anything,
}

/// Which keys go with which word of another key.
pub struct Kinds {
    /// The deciding key; without it none of `only` may be there.
    pub key: &'static str,
    /// For each word: the keys it must have, and those that it may have; a key
    /// that only other words list must not be there.
    pub rows: &'static [(
        &'static str,
        &'static [&'static str],
        &'static [&'static str],
    )],
}

const fn required(key: &'static str, shape: Shape, about: &'static str) -> Field {
    Field {
        key,
        about,
        shape,
        required: true,
    }
}

const fn optional(key: &'static str, shape: Shape, about: &'static str) -> Field {
    Field {
        key,
        about,
        shape,
        required: false,
    }
}

/// The kernel's longest CPU quota (2^44 - 1 microseconds) in whole cores.
const MOST_CORES: i64 = ((1 << 44) - 1) / 100_000;

/// The whole file.
pub static FILE: Object = Object {
    name: "file",
    about: "A deployment: services that each become a container.",
    fields: &[
        required(
            "version",
            Shape::Word(&["v1"]),
            "The version of this format.",
        ),
        required(
            "deployment",
            Shape::Text(&form::NAME),
            "What the services belong to; the scope of their secrets.",
        ),
        required(
            "services",
            Shape::Map(&form::NAME, &Shape::Object(&SERVICE)),
            "The services by name.",
        ),
    ],
    kinds: None,
};

/// One service.
pub static SERVICE: Object = Object {
    name: "service",
    about: "One service; its container is called NAME-rep-N.",
    fields: &[
        optional(
            "rtype",
            Shape::Text(&form::TEXT),
            "What kind of service this is; accepted, not interpreted.",
        ),
        optional(
            "endpoints",
            Shape::List(&Shape::Anything),
            "Where it can be reached; accepted, not interpreted.",
        ),
        optional("image", Shape::Object(&IMAGE), "The image it is made from."),
        optional("command", Shape::Object(&COMMAND), "What it runs."),
        optional(
            "env",
            Shape::Map(&form::VARIABLE, &Shape::Text(&form::VALUE)),
            "Environment variables; $E:NAME is the host's variable NAME, $S:NAME the secret NAME.",
        ),
        optional("resources", Shape::Object(&RESOURCES), "What it may use."),
        optional(
            "storage",
            Shape::List(&Shape::Object(&STORAGE)),
            "What is mounted into it.",
        ),
        optional(
            "devices",
            Shape::List(&Shape::Object(&DEVICE)),
            "Device nodes of the host that it may use.",
        ),
        optional(
            "capabilities",
            Shape::List(&Shape::Text(&form::CAPABILITY)),
            "Exactly the capabilities it has; without the key, those that Docker gives.",
        ),
        optional(
            "privileged",
            Shape::Boolean,
            "Every capability and device, no masks, /sys writable.",
        ),
        optional("host_network", Shape::Boolean, "Use the host's network."),
        optional(
            "hostname",
            Shape::Text(&form::HOSTNAME),
            "Its host name; without the key, the container's id.",
        ),
        optional(
            "cgroup_parent",
            Shape::Text(&form::CGROUP),
            "The cgroup below which the container's own is made.",
        ),
    ],
    kinds: None,
};

/// `image`.
pub static IMAGE: Object = Object {
    name: "image",
    about: "The image a service is made from.",
    fields: &[required(
        "name",
        Shape::Text(&form::WORDS),
        "Its name, for people: the root file system and configuration are given to the builder.",
    )],
    kinds: None,
};

/// `command`.
pub static COMMAND: Object = Object {
    name: "command",
    about: "What a service runs.",
    fields: &[
        optional(
            "entrypoint",
            Shape::List(&Shape::Text(&form::TEXT)),
            "The program and its first arguments, in place of the image's entrypoint and command.",
        ),
        optional(
            "args",
            Shape::List(&Shape::Text(&form::TEXT)),
            "Arguments after the entrypoint; without one, the program and its arguments.",
        ),
        optional(
            "workdir",
            Shape::Text(&form::DIRECTORY),
            "The working directory.",
        ),
    ],
    kinds: None,
};

/// `resources`.
pub static RESOURCES: Object = Object {
    name: "resources",
    about: "What a service may use.",
    fields: &[
        optional("cpu", Shape::Integer(1, MOST_CORES), "Whole cores."),
        optional(
            "memory",
            Shape::Text(&form::BYTES),
            "Bytes, as in 512Mi, 2G or 1048576; Ki Mi Gi Ti are powers of 1024, K M G T of 1000.",
        ),
        optional("gpu", Shape::Object(&GPU), "GPUs."),
    ],
    kinds: None,
};

/// `resources.gpu`.
pub static GPU: Object = Object {
    name: "gpu",
    about: "GPUs, and how they are shared.",
    fields: &[
        optional(
            "count",
            Shape::Text(&form::COUNT),
            "How many, or all; without the key, one.",
        ),
        optional(
            "vendor",
            Shape::Text(&form::NAME),
            "Whose, as in nvidia, amd, intel; without the key, the only vendor of the host.",
        ),
        optional(
            "sharing",
            Shape::Word(&["mps", "time-slice"]),
            "How they are shared with other containers.",
        ),
        optional(
            "mps_pipe_dir",
            Shape::Text(&form::PATH),
            "Where the MPS control daemon's pipes are; /tmp/nvidia-mps.",
        ),
        optional(
            "mps_log_dir",
            Shape::Text(&form::PATH),
            "Where the MPS control daemon logs; /tmp/nvidia-log.",
        ),
        optional(
            "mps_shm_dir",
            Shape::Text(&form::PATH),
            "The /dev/shm that the MPS control daemon sees; /dev/shm.",
        ),
        optional(
            "mps_active_thread_percentage",
            Shape::Integer(1, 100),
            "The part of a GPU's threads that the container may use.",
        ),
        optional(
            "mps_pinned_memory_limit",
            Shape::Text(&form::PINNED),
            "How much memory of each GPU may be pinned, as in 2G or 0=2G,1=512M; M and G are powers of 1024.",
        ),
        optional(
            "time_slice_index",
            Shape::Integer(0, 4095),
            "The one device that the container sees.",
        ),
        optional(
            "time_slicing_config_path",
            Shape::Text(&form::PATH),
            "A file that is mounted at /etc/nvidia/gpu-time-slicing.yaml.",
        ),
        optional(
            "distributed",
            Shape::Object(&DISTRIBUTED),
            "Variables for work that is spread over processes.",
        ),
    ],
    kinds: Some(Kinds {
        key: "sharing",
        rows: &[
            (
                "mps",
                &[],
                &[
                    "mps_pipe_dir",
                    "mps_log_dir",
                    "mps_shm_dir",
                    "mps_active_thread_percentage",
                    "mps_pinned_memory_limit",
                ],
            ),
            (
                "time-slice",
                &["time_slice_index"],
                &["time_slicing_config_path"],
            ),
        ],
    }),
};

/// `resources.gpu.distributed`.
pub static DISTRIBUTED: Object = Object {
    name: "distributed",
    about: "Work that is spread over processes; a variable the container already has stays.",
    fields: &[
        optional(
            "backend",
            Shape::Word(&["nccl", "gloo", "mpi"]),
            "The library, whose interface variable is set.",
        ),
        optional(
            "master_addr",
            Shape::Text(&form::WORDS),
            "MASTER_ADDR; without the key, the service's name.",
        ),
        optional(
            "master_port",
            Shape::Integer(1, 65535),
            "MASTER_PORT; 29500.",
        ),
        optional("world_size", Shape::Integer(1, 1_000_000), "WORLD_SIZE; 1."),
        optional("rank", Shape::Integer(0, 999_999), "RANK; 0."),
        optional("local_rank", Shape::Integer(0, 999_999), "LOCAL_RANK; 0."),
        optional(
            "interface",
            Shape::Text(&form::INTERFACE),
            "NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME; eth0.",
        ),
    ],
    kinds: None,
};

/// One of `storage`.
pub static STORAGE: Object = Object {
    name: "storage",
    about: "One mount of a service.",
    fields: &[
        required(
            "type",
            Shape::Word(&["bind", "named", "anonymous", "tmpfs", "s3"]),
            "What is mounted.",
        ),
        required(
            "target",
            Shape::Text(&form::PATH),
            "Where, in the container.",
        ),
        optional(
            "source",
            Shape::Text(&form::PATH),
            "The host's file or directory.",
        ),
        optional(
            "name",
            Shape::Text(&form::NAME),
            "The volume; its place on the host is given to the builder.",
        ),
        optional("readonly", Shape::Boolean, "Whether it cannot be written."),
        optional(
            "tier",
            Shape::Text(&form::NAME),
            "What it is on: local, network; network warns of databases.",
        ),
        optional(
            "size",
            Shape::Text(&form::BYTES),
            "How much a tmpfs holds, as in 256Mi.",
        ),
        optional(
            "mode",
            Shape::Text(&form::MODE),
            "The permissions of a tmpfs, octal, as in 1777.",
        ),
        optional("bucket", Shape::Text(&form::NAME), "The bucket."),
        optional(
            "prefix",
            Shape::Text(&form::WORDS),
            "The part of the bucket.",
        ),
        optional(
            "endpoint",
            Shape::Text(&form::WORDS),
            "Where the bucket is served; for who mounts it on the host.",
        ),
        optional(
            "credentials",
            Shape::Text(&form::WORDS),
            "Which credentials open it; for who mounts it on the host.",
        ),
    ],
    kinds: Some(Kinds {
        key: "type",
        rows: &[
            ("bind", &["source"], &["readonly", "tier"]),
            ("named", &["name"], &["readonly", "tier"]),
            ("anonymous", &[], &["readonly", "tier"]),
            ("tmpfs", &[], &["readonly", "size", "mode"]),
            (
                "s3",
                &["bucket"],
                &["prefix", "endpoint", "credentials", "readonly", "tier"],
            ),
        ],
    }),
};

/// One of `devices`.
pub static DEVICE: Object = Object {
    name: "device",
    about: "One device node; without any of read, write and mknod, it is read and written.",
    fields: &[
        required(
            "path",
            Shape::Text(&form::PATH),
            "The node, on the host and in the container.",
        ),
        optional("read", Shape::Boolean, "Whether it may be read."),
        optional("write", Shape::Boolean, "Whether it may be written."),
        optional("mknod", Shape::Boolean, "Whether the node may be made."),
    ],
    kinds: None,
};
