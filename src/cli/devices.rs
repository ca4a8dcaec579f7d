//! kusabi's own options: devices by their CDI names.

use std::path::PathBuf;

/// Devices that the caller asks for, on top of what the bundle asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Devices {
    /// Inject a CDI device, as in nvidia.com/gpu=0; may be repeated
    #[arg(long = "device", value_name = "VENDOR/CLASS=NAME")]
    pub devices: Vec<String>,
    /// Look for CDI specifications here and nowhere else; may be repeated, the
    /// last directory has the highest priority
    #[arg(long = "cdi-dir", value_name = "DIR")]
    pub cdi_dirs: Vec<PathBuf>,
}
