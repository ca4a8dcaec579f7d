//! `cdi list`, `cdi show`, `cdi validate`.

use std::path::PathBuf;

/// The commands below `cdi`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cdi {
    /// `cdi list`
    List(CdiList),
    /// `cdi show`
    Show(CdiShow),
    /// `cdi validate`
    Validate(CdiValidate),
}

/// Arguments of `cdi list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct CdiList {
    /// Look for CDI specifications here and nowhere else; may be repeated
    #[arg(long = "cdi-dir", value_name = "DIR")]
    pub cdi_dirs: Vec<PathBuf>,
    /// Shape of the output
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: CdiFormat,
}

/// Arguments of `cdi show`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct CdiShow {
    /// Look for CDI specifications here and nowhere else; may be repeated
    #[arg(long = "cdi-dir", value_name = "DIR")]
    pub cdi_dirs: Vec<PathBuf>,
    /// Shape of the output
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: CdiFormat,
    /// Devices, as in nvidia.com/gpu=0
    #[arg(value_name = "device")]
    pub devices: Vec<String>,
}

/// Arguments of `cdi validate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct CdiValidate {
    /// Look for CDI specifications here and nowhere else; may be repeated
    #[arg(long = "cdi-dir", value_name = "DIR")]
    pub cdi_dirs: Vec<PathBuf>,
    /// Specification files [default: all files in the directories]
    #[arg(value_name = "file")]
    pub files: Vec<PathBuf>,
}

/// Shape of the output of `cdi list` and `cdi show`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CdiFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON value.
    Json,
}
