//! Combinations that make no sense, or would reach out of the container, refused
//! in runc's words. Pure but for what it is given to ask.

use serde_json::Value;

use crate::edit::NamespaceKind;
use crate::error::Result;
use crate::runtime::RuntimeError;
use crate::runtime::lower::Namespaces;
use crate::runtime::sysctl::dotted;

/// Checks a document. `own_network` tells whether the network namespace given by
/// path is the runtime's own.
///
/// # Errors
/// The field and the reason.
pub(super) fn document(
    value: &Value,
    namespaces: &Namespaces,
    own_network: impl FnOnce() -> Result<bool>,
) -> Result<()> {
    names(value, namespaces)?;
    user_namespace(value, namespaces)?;
    mount_namespace(value, namespaces)?;
    time_namespace(value, namespaces)?;
    sysctls(value, namespaces, own_network)
}

fn refuse(field: &str, why: impl Into<String>) -> Result<()> {
    Err(RuntimeError::config(field, why).into())
}

fn is_filled(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

fn names(value: &Value, namespaces: &Namespaces) -> Result<()> {
    for field in ["hostname", "domainname"] {
        if is_filled(&value[field]) && !namespaces.is_private(NamespaceKind::Uts) {
            return refuse(
                field,
                format!("unable to set {field} without a private UTS namespace"),
            );
        }
    }
    Ok(())
}

fn user_namespace(value: &Value, namespaces: &Namespaces) -> Result<()> {
    let linux = &value["linux"];
    let mapped = |field: &str| is_filled(&linux[field]);
    if namespaces.is_new(NamespaceKind::User) {
        for (field, what) in [("uidMappings", "uid"), ("gidMappings", "gid")] {
            if !mapped(field) {
                return refuse(
                    &format!("linux.{field}"),
                    format!("user namespaces enabled, but no {what} mappings found"),
                );
            }
        }
    }
    if !namespaces.is_private(NamespaceKind::User)
        && (mapped("uidMappings") || mapped("gidMappings"))
    {
        return refuse(
            "linux.uidMappings",
            "user namespace mappings specified, but user namespace isn't enabled in the config",
        );
    }
    Ok(())
}

/// What is mounted where others see it has to be the caller's to mount, and is not
/// the container's to hide from them.
fn mount_namespace(value: &Value, namespaces: &Namespaces) -> Result<()> {
    if namespaces.is_new(NamespaceKind::Mount) {
        return Ok(());
    }
    let shared = !namespaces.is_private(NamespaceKind::Mount);
    for field in ["maskedPaths", "readonlyPaths"] {
        if shared && is_filled(&value["linux"][field]) {
            return refuse(
                &format!("linux.{field}"),
                "unable to restrict sys entries without a private MNT namespace",
            );
        }
    }
    if shared && namespaces.is_private(NamespaceKind::User)
        || namespaces.is_new(NamespaceKind::User)
    {
        return refuse(
            "linux.namespaces",
            "a user namespace needs a new mount namespace: in that of others it has no right to mount",
        );
    }
    Ok(())
}

fn time_namespace(value: &Value, namespaces: &Namespaces) -> Result<()> {
    if !is_filled(&value["linux"]["timeOffsets"]) {
        return Ok(());
    }
    if !namespaces.is_private(NamespaceKind::Time) {
        return refuse(
            "linux.timeOffsets",
            "time namespace offsets specified, but time namespace isn't enabled in the config",
        );
    }
    if namespaces.path(NamespaceKind::Time).is_some() {
        return refuse(
            "linux.timeOffsets",
            "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one",
        );
    }
    Ok(())
}

/// Those of System V and POSIX message queues, which an IPC namespace has its own
/// of (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Only what belongs to a namespace of the container's may be set: the rest of
/// `/proc/sys` is the host's.
fn sysctls(
    value: &Value,
    namespaces: &Namespaces,
    own_network: impl FnOnce() -> Result<bool>,
) -> Result<()> {
    let Some(list) = value["linux"]["sysctl"].as_object() else {
        return Ok(());
    };
    let mut own_network = Some(own_network);
    let mut host_network = None;
    for key in list.keys() {
        let name = dotted(key);
        let why = if IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.") {
            if namespaces.is_private(NamespaceKind::Ipc) {
                continue;
            }
            format!("sysctl {name:?} is not allowed in the hosts ipc namespace")
        } else if name.starts_with("net.") {
            if !namespaces.is_private(NamespaceKind::Network) {
                host_network = Some(true);
            }
            let host = match (host_network, own_network.take()) {
                (Some(known), _) => known,
                (None, Some(ask)) => ask()?,
                (None, None) => false,
            };
            host_network = Some(host);
            if !host {
                continue;
            }
            format!("sysctl {name:?} not allowed in host network namespace")
        } else if name == "kernel.domainname" && namespaces.is_private(NamespaceKind::Uts) {
            continue;
        } else if name == "kernel.hostname" && namespaces.is_private(NamespaceKind::Uts) {
            format!(
                "sysctl {name:?} is not allowed as it conflicts with the OCI \"hostname\" field"
            )
        } else if name.starts_with("user.") {
            if namespaces.is_private(NamespaceKind::User) {
                continue;
            }
            format!("setting ucounts without a user namespace not allowed: {name}")
        } else {
            format!("sysctl {name:?} is not in a separate kernel namespace")
        };
        return refuse("linux.sysctl", why);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::document::Namespace;

    /// `kinds` as in the configuration; one with a path behind `=`.
    fn check(value: &Value, kinds: &[&str], own_network: bool) -> std::result::Result<(), String> {
        let entry = |kind: &&str| {
            let (kind, path) = match kind.split_once('=') {
                Some((kind, path)) => (kind, Some(path.into())),
                None => (*kind, None),
            };
            Namespace {
                kind: NamespaceKind::from_key(kind).unwrap(),
                path,
            }
        };
        let namespaces = Namespaces::new(kinds.iter().map(entry).collect()).unwrap();
        document(value, &namespaces, || Ok(own_network)).map_err(|e| e.to_string())
    }

    fn sysctl(name: &str) -> Value {
        json!({"linux": {"sysctl": {name: "1"}}})
    }

    #[test]
    fn sysctls_of_the_container_s_namespaces_are_let_through() {
        for (name, kind) in [
            ("kernel.shmmax", "ipc"),
            ("fs.mqueue.msg_max", "ipc"),
            ("net.ipv4.ip_forward", "network"),
            ("net/ipv4/conf/eno2.100.rp_filter", "network"),
            ("net.ipv4.ip_forward", "network=/x"),
            ("kernel.domainname", "uts"),
        ] {
            assert_eq!(check(&sysctl(name), &[kind], false), Ok(()), "{name}");
        }
    }

    #[test]
    fn sysctls_of_the_host_are_refused() {
        for (name, kinds, words) in [
            (
                "kernel.shmmax",
                &[][..],
                "is not allowed in the hosts ipc namespace",
            ),
            (
                "net.ipv4.ip_forward",
                &[],
                "not allowed in host network namespace",
            ),
            (
                "net.ipv4.ip_forward",
                &["network=/own"],
                "not allowed in host network namespace",
            ),
            (
                "kernel.hostname",
                &["uts"],
                "conflicts with the OCI \"hostname\" field",
            ),
            (
                "kernel.domainname",
                &[],
                "is not in a separate kernel namespace",
            ),
            (
                "user.max_user_namespaces",
                &[],
                "setting ucounts without a user namespace",
            ),
            (
                "kernel.panic",
                &["uts", "ipc", "network"],
                "\"kernel.panic\" is not in a separate",
            ),
            ("kernel/panic", &[], "\"kernel.panic\" is not in a separate"),
        ] {
            let error = check(&sysctl(name), kinds, true).unwrap_err();
            assert!(error.contains(words), "{error}");
            assert!(error.starts_with("config.json: linux.sysctl: "), "{error}");
        }
    }

    #[test]
    fn names_offsets_and_mappings_need_their_namespace() {
        let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
        for (value, kinds, words) in [
            (
                json!({"hostname": "x"}),
                &[][..],
                "unable to set hostname without a private UTS namespace",
            ),
            (
                json!({"domainname": "x"}),
                &[],
                "unable to set domainname without a private UTS namespace",
            ),
            (
                json!({"linux": {"timeOffsets": {"monotonic": {"secs": 1}}}}),
                &[],
                "but time namespace isn't enabled",
            ),
            (
                json!({"linux": {"timeOffsets": {"monotonic": {"secs": 1}}}}),
                &["time=/x"],
                "both namespace path and time offsets specified",
            ),
            (
                json!({"linux": {"uidMappings": map}}),
                &[],
                "but user namespace isn't enabled",
            ),
            (
                json!({"linux": {"uidMappings": map}}),
                &["user"],
                "no gid mappings found",
            ),
            (json!({}), &["user"], "no uid mappings found"),
            (
                json!({"linux": {"maskedPaths": ["/proc/kcore"]}}),
                &[],
                "unable to restrict sys entries without a private MNT namespace",
            ),
            (
                json!({"linux": {"uidMappings": map, "gidMappings": map}}),
                &["user", "mount=/x"],
                "a user namespace needs a new mount namespace",
            ),
            (
                json!({}),
                &["user=/x"],
                "a user namespace needs a new mount namespace",
            ),
        ] {
            let error = check(&value, kinds, false).unwrap_err();
            assert!(error.contains(words), "{error}");
            assert_eq!(check(&json!({"hostname": ""}), &[], false), Ok(()));
        }
    }
}
