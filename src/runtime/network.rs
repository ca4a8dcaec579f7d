//! `linux.netDevices`: interfaces of the host that move into the container (OCI
//! `config-linux.md`, "Network Devices").
//!
//! Done by the parent while init waits inside its network namespace. The kernel
//! drops an interface's addresses when it moves; those that the user configured
//! for all the world are put back, others would be wrong where it goes. When the
//! namespace ends the kernel gives a physical interface back and removes a
//! virtual one, so a failure needs no undo of ours.

mod netlink;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use serde_json::Value;

use self::netlink::{Address, Client};
use super::RuntimeError;
use super::lower::Namespaces;
use crate::document::{Document, DocumentError};
use crate::edit::NamespaceKind;
use crate::error::{Error, Result};
use crate::sys::process::setns;

/// One interface to be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name on the host.
    pub host: String,
    /// Its name in the container.
    pub name: String,
}

/// The devices of a document, checked.
///
/// # Errors
/// In runc's words: without a network namespace of the container's own, without
/// privilege, or with a name that no interface can have.
pub fn devices(
    document: &Document,
    namespaces: &Namespaces,
    rootless: bool,
) -> Result<Vec<Device>> {
    let mut devices = Vec::new();
    match &document.value()["linux"]["netDevices"] {
        Value::Null => {}
        Value::Object(map) => {
            for (host, device) in map {
                devices.push(read(host, device)?);
            }
        }
        _ => return Err(wrong("linux.netDevices")),
    }
    let refuse = |text: &str| Err(RuntimeError::Refused(text.to_owned()).into());
    if devices.is_empty() {
        return Ok(devices);
    }
    if !namespaces.is_private(NamespaceKind::Network) {
        return refuse("unable to move network devices without a NET namespace");
    }
    if rootless {
        return refuse("network devices are not supported for rootless containers");
    }
    for device in &devices {
        for name in [&device.host, &device.name] {
            if !is_name(name) {
                return refuse(&format!("invalid network device name {name:?}"));
            }
        }
    }
    Ok(devices)
}

fn read(host: &str, device: &Value) -> Result<Device> {
    let name = match device {
        Value::Null => "",
        Value::Object(map) => match map.get("name") {
            None | Some(Value::Null) => "",
            Some(Value::String(name)) => name,
            Some(_) => return Err(wrong(&format!("linux.netDevices.{host}.name"))),
        },
        _ => return Err(wrong(&format!("linux.netDevices.{host}"))),
    };
    Ok(Device {
        host: host.to_owned(),
        name: if name.is_empty() { host } else { name }.to_owned(),
    })
}

fn wrong(field: &str) -> Error {
    DocumentError::Value {
        field: field.to_owned(),
        reason: "is not what the OCI specification describes".to_owned(),
    }
    .into()
}

/// The kernel's rule (`dev_valid_name`): 15 bytes, and a file name in sysfs.
fn is_name(name: &str) -> bool {
    let forbidden = |c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace();
    !name.is_empty()
        && name.len() < libc::IFNAMSIZ
        && name != "."
        && name != ".."
        && !name.contains(forbidden)
}

/// Moves all devices into the network namespace of process `init`.
///
/// # Errors
/// The first device that cannot be moved, in runc's words. Those before it are
/// in the namespace already, and end with it.
pub fn move_devices(devices: &[Device], init: i32) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let path = format!("/proc/{init}/ns/net");
    let namespace = File::open(&path).map_err(|e| Error::io("open", &path, e))?;
    let failed = |what: &str, e: std::io::Error| RuntimeError::syscall(what, e);
    let mut outside = Client::new().map_err(|e| failed("open a netlink socket", e))?;
    let mut inside = client_in(&namespace)?;
    for device in devices {
        move_device(device, &namespace, &mut outside, &mut inside).map_err(|(step, e)| {
            failed(
                &format!("move netDevice {} to namespace {path}: {step}", device.host),
                e,
            )
        })?;
    }
    Ok(())
}

/// A client whose socket belongs to another network namespace.
fn client_in(namespace: &File) -> Result<Client> {
    let own = "/proc/self/ns/net";
    let back = File::open(own).map_err(|e| Error::io("open", own, e))?;
    let failed = |e: std::io::Error| RuntimeError::syscall("enter the network namespace", e);
    setns(namespace.as_fd(), libc::CLONE_NEWNET).map_err(failed)?;
    let client = Client::new();
    setns(back.as_fd(), libc::CLONE_NEWNET)
        .map_err(|e| RuntimeError::syscall("return to the own network namespace", e))?;
    client.map_err(|e| RuntimeError::syscall("open a netlink socket", e).into())
}

fn move_device(
    device: &Device,
    namespace: &File,
    outside: &mut Client,
    inside: &mut Client,
) -> Result<(), (String, std::io::Error)> {
    let Device { host, name } = device;
    let at = |step: String| move |e: std::io::Error| (step, e);
    let index = outside.index_of(host).map_err(at(format!(
        "link not found for interface {host} on runtime namespace"
    )))?;
    // The kernel moves it first and finds out then, and a virtual interface would
    // end with the namespace.
    if inside.index_of(name).is_ok() {
        let taken = std::io::Error::from_raw_os_error(libc::EEXIST);
        return Err((
            format!("fail to move network device {host} as {name}"),
            taken,
        ));
    }
    // Before it goes down: that alone costs it those of IPv6.
    let addresses = outside
        .addresses(index)
        .map_err(at("fail to get ip addresses".into()))?;
    // As runc: nothing of the host's may use it while it changes.
    outside
        .set_up(index, false)
        .map_err(at("fail to set link down".into()))?;
    // One step: under its old name it may be in the way of another inside.
    outside
        .send_away(index, name, namespace.as_raw_fd())
        .map_err(at(format!("fail to move network device {host}")))?;
    let index = inside.index_of(name).map_err(at(format!(
        "link not found for interface {name} on the container's namespace"
    )))?;
    for address in addresses.iter().filter(|a| a.is_kept()) {
        let Address { ip, prefix, .. } = address;
        inside
            .add_address(index, address)
            .map_err(at(format!("fail to set up address {ip}/{prefix}")))?;
    }
    inside
        .set_up(index, true)
        .map_err(at(format!("fail to set up interface {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(linux: &str, rootless: bool) -> Result<Vec<Device>, String> {
        let text = format!(r#"{{"ociVersion":"1.2.1","linux":{linux}}}"#);
        let document = Document::parse(text.as_bytes()).unwrap();
        let namespaces = Namespaces::new(document.namespaces().unwrap()).unwrap();
        devices(&document, &namespaces, rootless).map_err(|e| e.to_string())
    }

    const OWN: &str = r#""namespaces":[{"type":"network"}]"#;

    #[test]
    fn a_device_keeps_its_name_or_gets_another() {
        let linux = format!(r#"{{{OWN},"netDevices":{{"eth1":{{}},"eth2":{{"name":"data"}}}}}}"#);
        let device = |host: &str, name: &str| Device {
            host: host.into(),
            name: name.into(),
        };
        assert_eq!(
            judge(&linux, false),
            Ok(vec![device("eth1", "eth1"), device("eth2", "data")])
        );
        assert_eq!(judge("{}", true), Ok(Vec::new()));
        assert_eq!(judge(r#"{"netDevices":{}}"#, true), Ok(Vec::new()));
    }

    #[test]
    fn what_cannot_be_moved_is_refused_in_runc_s_words() {
        let with = |devices: &str| format!(r#"{{{OWN},"netDevices":{devices}}}"#);
        let error = |linux: &str, rootless| judge(linux, rootless).unwrap_err();
        assert_eq!(
            error(r#"{"netDevices":{"eth1":{}}}"#, false),
            "unable to move network devices without a NET namespace"
        );
        assert_eq!(
            error(&with(r#"{"eth1":{}}"#), true),
            "network devices are not supported for rootless containers"
        );
        for name in ["", ".", "..", "a/b", "a:b", "a b", "sixteen-letters-"] {
            let wanted = format!("invalid network device name {name:?}");
            assert_eq!(
                error(&with(&format!(r#"{{"{name}":{{}}}}"#)), false),
                wanted
            );
            if !name.is_empty() {
                let renamed = with(&format!(r#"{{"eth1":{{"name":"{name}"}}}}"#));
                assert_eq!(error(&renamed, false), wanted);
            }
        }
        assert!(error(&with(r#"{"eth1":{"name":3}}"#), false).contains("netDevices.eth1.name"));
        assert!(error(&with("[]"), false).contains("linux.netDevices"));
    }
}
