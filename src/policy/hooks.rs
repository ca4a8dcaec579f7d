//! Which hooks may run: `[hooks]`.

use std::path::{Path, PathBuf};

/// The programs that inject NVIDIA's devices by themselves, before the container
/// runs. Beside edits of ours they would do it a second time, and differently.
const VENDOR_HOOKS: &[&str] = &[
    "nvidia-container-runtime-hook",
    "nvidia-container-toolkit",
    "oci-nvidia-hook",
];

/// Which hooks may run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// `allow`: programs that a CDI file may name; without the key, any, as the
    /// file itself is only believed where nobody else could have written it.
    pub allow: Option<Vec<PathBuf>>,
    /// `not-allowed`: what becomes of others.
    pub not_allowed: NotAllowed,
    /// `vendor`: what becomes of a vendor's own prestart hook in `config.json`
    /// where kusabi injects devices of that vendor.
    pub vendor: VendorHook,
}

/// What becomes of a hook of a CDI file that is not on the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NotAllowed {
    /// The container is not made.
    #[default]
    Refuse,
    /// The container is made without it, which is logged.
    Remove,
}

/// What becomes of a vendor's own prestart hook.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VendorHook {
    /// It is taken out, which is logged.
    #[default]
    Remove,
    /// The container is not made.
    Refuse,
    /// It runs, too.
    Keep,
}

/// Whether a hook of a CDI file may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookVerdict {
    /// It may.
    Run,
    /// It may not; the container is made without it.
    Remove,
    /// It may not, and neither may the container.
    Refuse,
}

impl Hooks {
    /// Whether a program that a CDI file names may run.
    #[must_use]
    pub fn verdict(&self, program: &Path) -> HookVerdict {
        match &self.allow {
            Some(allow) if !allow.iter().any(|allowed| allowed == program) => {
                match self.not_allowed {
                    NotAllowed::Refuse => HookVerdict::Refuse,
                    NotAllowed::Remove => HookVerdict::Remove,
                }
            }
            _ => HookVerdict::Run,
        }
    }

    /// Whether a hook of `config.json` is one that injects NVIDIA's devices.
    #[must_use]
    pub fn is_vendors(program: &Path) -> bool {
        program
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| VENDOR_HOOKS.contains(&name.strip_suffix(".real").unwrap_or(name)))
    }
}
