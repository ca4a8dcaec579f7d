//! Labels of security modules: the AppArmor profile and the SELinux label of a
//! process (OCI `config.md`, "Linux Process").
//!
//! The parent checks that there is a module to ask, before anything is made: a
//! container that should be confined must not run unconfined. The process itself
//! then asks, for its next `execve`. Its files below `/proc` are reached through
//! pathrs, which takes no file for them that an image or a mount has put there.

use std::io::Write;
use std::path::Path;

use pathrs::flags::OpenFlags;
use pathrs::procfs::{ProcfsBase, ProcfsHandle};

use super::RuntimeError;
use super::credentials::KindText;
use super::process::ProcessSpec;
use crate::error::Result;

/// Checks that what `process` asks for can be had on this host.
///
/// # Errors
/// A label without its module, in runc's words.
pub fn check(process: &ProcessSpec) -> Result<()> {
    let refuse = |field: &str, why: &str| {
        Err(RuntimeError::Refused(format!("process.{field}: {why}")).into())
    };
    if !process.selinux_label.is_empty() && !selinux_is_enabled() {
        return refuse(
            "selinuxLabel",
            "selinux label is specified in config, but selinux is disabled or not supported",
        );
    }
    if !process.apparmor_profile.is_empty() && !apparmor_is_enabled() {
        return refuse(
            "apparmorProfile",
            "unable to apply apparmor profile: apparmor: config provided but apparmor not supported",
        );
    }
    Ok(())
}

/// Asks for the labels that the next program of this process gets.
///
/// # Errors
/// One line in runc's words: a profile that is not loaded, a label that the
/// policy does not know or does not let us give.
pub fn label_next_program(process: &ProcessSpec) -> Result<(), String> {
    if !process.selinux_label.is_empty() {
        write("attr/exec", &process.selinux_label)
            .map_err(|e| format!("can't set process label: {e}"))?;
    }
    if !process.apparmor_profile.is_empty() {
        let request = format!("exec {}", process.apparmor_profile);
        // Its own directory, since Linux 5.8, where several modules may be active.
        write("attr/apparmor/exec", &request)
            .or_else(|_| write("attr/exec", &request))
            .map_err(|e| {
                format!("unable to apply apparmor profile: apparmor failed to apply profile: {e}")
            })?;
    }
    Ok(())
}

/// Gives keys that this process makes from here on a SELinux label; an empty one
/// puts back the default.
///
/// # Errors
/// The kernel's, as one line.
pub fn label_keys(label: &str) -> Result<(), String> {
    write("attr/keycreate", label).map_err(|e| format!("can't set key label: {e}"))
}

fn write(file: &str, text: &str) -> Result<(), String> {
    let path = |e: pathrs::error::Error| format!("open /proc/self/{file}: {e}");
    ProcfsHandle::new()
        .map_err(path)?
        .open(
            ProcfsBase::ProcSelf,
            file,
            OpenFlags::O_WRONLY | OpenFlags::O_CLOEXEC,
        )
        .map_err(path)?
        .write_all(text.as_bytes())
        .map_err(|e| format!("write /proc/self/{file}: {}", e.kind_text()))
}

fn selinux_is_enabled() -> bool {
    // f_type differs in width and sign between architectures; the magic number
    // has 32 bits.
    const SELINUX_MAGIC: u32 = 0xf97c_ff8c;
    nix::sys::statfs::statfs("/sys/fs/selinux").is_ok_and(|found| {
        let magic = found.filesystem_type().0 & 0xffff_ffff;
        u32::try_from(magic) == Ok(SELINUX_MAGIC)
    })
}

fn apparmor_is_enabled() -> bool {
    Path::new("/sys/kernel/security/apparmor").exists()
        && std::fs::read("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|text| text.first() == Some(&b'Y'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_labels_needs_no_module() {
        assert!(check(&ProcessSpec::default()).is_ok());
        assert!(label_next_program(&ProcessSpec::default()).is_ok());
    }

    #[test]
    fn a_label_without_its_module_is_refused_in_runc_s_words() {
        let labelled = [
            (
                selinux_is_enabled(),
                ProcessSpec {
                    selinux_label: "system_u:system_r:container_t:s0".into(),
                    ..ProcessSpec::default()
                },
                "selinux is disabled or not supported",
            ),
            (
                apparmor_is_enabled(),
                ProcessSpec {
                    apparmor_profile: "some-profile".into(),
                    ..ProcessSpec::default()
                },
                "apparmor: config provided but apparmor not supported",
            ),
        ];
        for (enabled, process, words) in labelled {
            match check(&process) {
                Ok(()) => assert!(enabled, "{words}"),
                Err(error) => {
                    assert!(!enabled);
                    assert!(error.to_string().ends_with(words), "{error}");
                }
            }
        }
    }
}
