//! `features`: what this runtime can do, as the OCI specification's
//! `features.md` defines it.
//!
//! A field that is left out means "unknown". What is listed must be so: callers
//! choose by it, buildkit idmapped mounts, Kubernetes recursive read-only ones.

use caps::Capability;
use libseccomp::{ScmpAction, ScmpArch, ScmpCompareOp, ScmpFilterContext};
use serde_json::{Map, Value, json};

use super::{output, version};
use crate::edit::HookStage;
use crate::error::Result;
use crate::rootfs::known_mount_options;
use crate::runtime::attributes::{MEMORY_FLAGS, MEMORY_MODES};

/// Kinds of namespaces.
const NAMESPACES: &[&str] = &[
    "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts",
];

const SECCOMP_ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

const SECCOMP_OPERATORS: &[&str] = &[
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// All that some libseccomp knows; which ones the linked one does is asked.
const SECCOMP_ARCHS: &[&str] = &[
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

/// Filter flags, and the libseccomp API level (library and kernel together,
/// `seccomp_api_get(3)`) from which each can be used.
const SECCOMP_FLAGS: &[(&str, u32)] = &[
    ("SECCOMP_FILTER_FLAG_TSYNC", 2),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 4),
    ("SECCOMP_FILTER_FLAG_LOG", 3),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 7),
];

/// Annotations of config.json that change what happens on the host.
const UNSAFE_ANNOTATIONS: &[&str] = &[
    "bundle",
    "org.systemd.property.",
    "kusabi.dev/cgroup-parent",
];

/// Prints the features.
///
/// # Errors
/// When stdout cannot be written.
pub(super) fn run() -> Result<()> {
    let mut text = output::indented(&features(), "    ")?;
    text.push('\n');
    output::print(&text)
}

fn features() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": version::OCI_VERSION,
        "hooks": HookStage::ALL.map(HookStage::key),
        "mountOptions": known_mount_options().collect::<Vec<_>>(),
        "linux": {
            "namespaces": NAMESPACES,
            "capabilities": capabilities(),
            "cgroup": {
                "v1": true,
                "v2": true,
                "systemd": true,
                "systemdUser": true,
            },
            "seccomp": seccomp(),
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "memoryPolicy": {
                "modes": MEMORY_MODES.iter().map(|(name, ..)| name).collect::<Vec<_>>(),
                "flags": MEMORY_FLAGS.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true },
        },
        "annotations": annotations(),
        "potentiallyUnsafeConfigAnnotations": UNSAFE_ANNOTATIONS,
    })
}

/// All that a capability set may name, in the kernel's order.
fn capabilities() -> Vec<String> {
    let mut all: Vec<Capability> = caps::all().into_iter().collect();
    all.sort_by_key(Capability::index);
    all.iter().map(ToString::to_string).collect()
}

fn seccomp() -> Value {
    let level = libseccomp::get_api();
    json!({
        "enabled": true,
        "actions": SECCOMP_ACTIONS.iter().filter(|name| knows_action(name)).collect::<Vec<_>>(),
        "operators": SECCOMP_OPERATORS.iter().filter(|name| knows_operator(name)).collect::<Vec<_>>(),
        "archs": SECCOMP_ARCHS.iter().filter(|name| knows_arch(name)).collect::<Vec<_>>(),
        "knownFlags": SECCOMP_FLAGS.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "supportedFlags": SECCOMP_FLAGS
            .iter()
            .filter(|(_, needed)| level >= *needed)
            .map(|(name, _)| name)
            .collect::<Vec<_>>(),
    })
}

/// Whether the linked library, on this kernel, takes the action: it refuses a
/// filter whose default is an action that it cannot express.
fn knows_action(name: &str) -> bool {
    ScmpAction::from_str(name, Some(1)).is_ok_and(|action| ScmpFilterContext::new(action).is_ok())
}

fn knows_operator(name: &str) -> bool {
    name.parse::<ScmpCompareOp>().is_ok()
}

/// Asks whether a filter has it: one that is unknown cannot be asked for. To add
/// it would refuse those of the other byte order as well.
fn knows_arch(name: &str) -> bool {
    let Ok(arch) = name.parse::<ScmpArch>() else {
        return false;
    };
    ScmpFilterContext::new(ScmpAction::Allow)
        .is_ok_and(|filter| filter.is_arch_present(arch).is_ok())
}

fn annotations() -> Map<String, Value> {
    let mut annotations = Map::new();
    let mut put = |key: &str, value: String| annotations.insert(key.to_owned(), value.into());
    put("dev.kusabi.commit", version::COMMIT.to_owned());
    put("dev.kusabi.version", version::VERSION.to_owned());
    if let Some(libseccomp) = version::libseccomp() {
        put("io.github.seccomp.libseccomp.version", libseccomp);
    }
    put(
        "org.opencontainers.runc.checkpoint.enabled",
        "false".to_owned(),
    );
    // Other runtimes put the runc here that they are most like.
    put("org.opencontainers.runc.version", "1.4.0".to_owned());
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_can_be_read_from_a_config() {
        use oci_spec::runtime::{
            Arch, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator,
        };
        fn reads<T: serde::de::DeserializeOwned>(list: &Value) {
            for word in list.as_array().unwrap() {
                assert!(serde_json::from_value::<T>(word.clone()).is_ok(), "{word}");
            }
        }
        let seccomp = seccomp();
        reads::<LinuxSeccompAction>(&seccomp["actions"]);
        reads::<LinuxSeccompOperator>(&seccomp["operators"]);
        reads::<Arch>(&seccomp["archs"]);
        reads::<LinuxSeccompFilterFlag>(&seccomp["knownFlags"]);
        assert_eq!(seccomp["operators"].as_array().unwrap().len(), 7);
        assert!(
            seccomp["archs"]
                .as_array()
                .unwrap()
                .contains(&"SCMP_ARCH_X86_64".into())
        );
    }

    #[test]
    fn an_architecture_nobody_knows_is_not_known() {
        assert!(!knows_arch("SCMP_ARCH_PDP11"));
        assert!(!knows_action("SCMP_ACT_SHRUG"));
        assert!(!knows_operator("SCMP_CMP_MAYBE"));
    }

    #[test]
    fn capabilities_are_the_kernels_41() {
        let capabilities = capabilities();
        assert_eq!(capabilities.len(), 41);
        assert_eq!(capabilities[0], "CAP_CHOWN");
        assert_eq!(capabilities[40], "CAP_CHECKPOINT_RESTORE");
    }
}
