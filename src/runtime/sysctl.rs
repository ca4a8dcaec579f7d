//! `linux.sysctl`, where the container's first process sets them itself.
//!
//! Through pathrs, on a procfs that nobody has mounted anything over
//! (CVE-2025-52881).

use std::io::Write as _;
use std::path::{Path, PathBuf};

use pathrs::flags::OpenFlags;
use pathrs::procfs::{ProcfsBase, ProcfsHandleBuilder};

use super::credentials::KindText;
use crate::rootfs::from_pathrs;

/// Names, as in `net.ipv4.ip_forward`, and values.
pub type Sysctls = Vec<(String, String)>;

/// Sets them, in the namespaces of the calling process.
///
/// # Errors
/// The kernel's, naming the parameter, in runc's words.
pub fn apply(list: &Sysctls) -> Result<(), String> {
    if list.is_empty() {
        return Ok(());
    }
    let procfs = ProcfsHandleBuilder::new().unmasked().build();
    let procfs = procfs.map_err(|e| {
        let reason = from_pathrs(&e).kind_text();
        format!("open procfs for sysctls: {reason}")
    })?;
    for (name, value) in list {
        let flags = OpenFlags::O_WRONLY | OpenFlags::O_CLOEXEC;
        let opened = procfs.open(ProcfsBase::ProcRoot, path(name), flags);
        let mut file = opened.map_err(|e| {
            let reason = from_pathrs(&e).kind_text();
            format!("open sysctl {name} file: {reason}")
        })?;
        file.write_all(value.as_bytes()).map_err(|e| {
            let reason = e.kind_text();
            format!("failed to write sysctl {name} = {value:?}: {reason}")
        })?;
    }
    Ok(())
}

/// A name with dots between its parts. Both separators are allowed; the first tells
/// which one is meant, and the other then stands within parts (sysctl.d(5)).
#[must_use]
pub fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(first) if name.as_bytes()[first] == b'/' => exchanged(name),
        _ => name.to_owned(),
    }
}

fn path(name: &str) -> PathBuf {
    Path::new("sys").join(exchanged(&dotted(name)))
}

/// Dots for slashes, and slashes for dots.
fn exchanged(name: &str) -> String {
    let exchange = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(exchange).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_separator_leads_to_the_same_file() {
        let file = Path::new("sys/net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(path("net.ipv4.conf.eth0/100.forwarding"), file);
        assert_eq!(path("net/ipv4/conf/eth0.100/forwarding"), file);
        assert_eq!(path("kernel.sem"), Path::new("sys/kernel/sem"));
    }
}
