//! Sharing a GPU, and several containers that work together.
//!
//! As text: a word, then `KEY=VALUE` with commas. `mps,threads=50,memory=4G`,
//! `time-slice,index=1`, `nccl,world-size=4,rank=2`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How a GPU is shared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharing {
    /// Through NVIDIA's multi-process service.
    Mps(Mps),
    /// By taking turns.
    TimeSlice(TimeSlice),
}

impl Sharing {
    /// Whether paths of the host are named that are not the usual ones. They are
    /// mounted, so only those may name them who may mount anything.
    #[must_use]
    pub fn names_host_paths(&self) -> bool {
        match self {
            Self::Mps(wish) => {
                let usual = Mps::default();
                wish.pipe_dir != usual.pipe_dir
                    || wish.log_dir != usual.log_dir
                    || wish.shm_dir != usual.shm_dir
            }
            Self::TimeSlice(wish) => wish.config.is_some(),
        }
    }
}

/// What the multi-process service needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mps {
    /// The control daemon's pipe directory.
    pub pipe_dir: PathBuf,
    /// Its log directory.
    pub log_dir: PathBuf,
    /// The `/dev/shm` that the daemon sees, as a path on the host.
    pub shm_dir: PathBuf,
    /// `CUDA_MPS_ACTIVE_THREAD_PERCENTAGE`, as decimal text above 0 and at most
    /// 100.
    pub threads: Option<String>,
    /// `CUDA_MPS_PINNED_DEVICE_MEM_LIMIT`
    pub memory: Option<PinnedMemory>,
}

impl Default for Mps {
    fn default() -> Self {
        Self {
            pipe_dir: "/tmp/nvidia-mps".into(),
            log_dir: "/tmp/nvidia-log".into(),
            shm_dir: "/dev/shm".into(),
            threads: None,
            memory: None,
        }
    }
}

/// How much memory of each GPU a client may pin, in MiB.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PinnedMemory {
    /// The same of each.
    Each(u64),
    /// By the number that the GPU has inside the container.
    PerDevice(BTreeMap<u32, u64>),
}

/// Which turn, and who says how long it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSlice {
    /// The one device that the container sees: `CUDA_VISIBLE_DEVICES`.
    pub index: u32,
    /// A file on the host that is bound at `/etc/nvidia/gpu-time-slicing.yaml`.
    pub config: Option<PathBuf>,
}

/// A place among several processes that work together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distributed {
    /// Whose variable names the network interface.
    pub backend: Backend,
    /// `MASTER_ADDR`; `None` is this container itself.
    pub master_addr: Option<String>,
    /// `MASTER_PORT`
    pub master_port: u16,
    /// `WORLD_SIZE`
    pub world_size: u32,
    /// `RANK`
    pub rank: u32,
    /// `LOCAL_RANK`
    pub local_rank: u32,
    /// The network interface, as the container has it.
    pub interface: String,
}

/// Who carries the messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// NCCL, or RCCL, which reads the same variables.
    #[default]
    Nccl,
    /// Gloo.
    Gloo,
    /// MPI: its launcher knows the interface.
    Mpi,
}

impl Backend {
    const WORDS: [(&'static str, Self); 3] = [
        ("nccl", Self::Nccl),
        ("gloo", Self::Gloo),
        ("mpi", Self::Mpi),
    ];

    /// The variable that names the network interface.
    #[must_use]
    pub fn interface_variable(self) -> Option<&'static str> {
        match self {
            Self::Nccl => Some("NCCL_SOCKET_IFNAME"),
            Self::Gloo => Some("GLOO_SOCKET_IFNAME"),
            Self::Mpi => None,
        }
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::WORDS
            .into_iter()
            .find(|(word, _)| *word == text)
            .map(|(_, backend)| backend)
            .ok_or_else(|| format!("{text:?} is no backend, expected nccl, gloo or mpi"))
    }
}

impl Default for Distributed {
    fn default() -> Self {
        Self {
            backend: Backend::default(),
            master_addr: None,
            master_port: 29_500,
            world_size: 1,
            rank: 0,
            local_rank: 0,
            interface: "eth0".to_owned(),
        }
    }
}

/// Keys with their values, in order.
type Pairs<'t> = Vec<(&'t str, &'t str)>;

/// `WORD[,KEY=VALUE…]`: the word, and the pairs, each key once.
fn pairs(text: &str) -> Result<(&str, Pairs<'_>), String> {
    let mut parts = text.split(',');
    let word = parts.next().unwrap_or_default();
    let mut seen = Pairs::new();
    for part in parts {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| format!("{part:?} is not KEY=VALUE"))?;
        if value.is_empty() {
            return Err(format!("{key} has no value"));
        }
        if let Some(letter) = value.chars().find(|c| c.is_control()) {
            return Err(format!("{key} {value:?} contains {letter:?}"));
        }
        if seen.iter().any(|(other, _)| *other == key) {
            return Err(format!("{key} is there twice"));
        }
        seen.push((key, value));
    }
    Ok((word, seen))
}

fn unknown(key: &str, known: &str) -> String {
    format!("unknown key {key:?}, expected {known}")
}

/// A path on the host, with nothing that a symbolic link could turn around.
fn absolute(key: &str, value: &str) -> Result<PathBuf, String> {
    let path = Path::new(value);
    let climbs = path
        .components()
        .any(|part| matches!(part, std::path::Component::ParentDir));
    if path.is_absolute() && !climbs {
        Ok(path.to_owned())
    } else {
        Err(format!("{key} {value:?} is no absolute path without .."))
    }
}

fn number<T: FromStr>(key: &str, value: &str) -> Result<T, String> {
    // `+5` parses, too.
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(number) if digits => Ok(number),
        _ => Err(format!("{key} {value:?} is no number in range")),
    }
}

/// Checks a share of a GPU's threads, in percent.
///
/// # Errors
/// What is expected instead.
pub(crate) fn percentage(value: &str) -> Result<String, String> {
    let plain = value
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    match value.parse::<f64>() {
        Ok(share) if plain && share > 0.0 && share <= 100.0 => Ok(value.to_owned()),
        _ => Err(format!(
            "threads {value:?} is no percentage above 0 and up to 100"
        )),
    }
}

/// Reads a size in MiB: a whole number with `M`, `Mi`, `MB`, `MiB`, or the same
/// with `G`; the service that reads it takes both as powers of two.
///
/// # Errors
/// What is expected instead.
pub(crate) fn mebibytes(value: &str) -> Result<u64, String> {
    let wrong = || format!("memory {value:?} is no size as in 512M or 4G");
    let end = value
        .find(|c: char| !c.is_ascii_digit())
        .ok_or_else(wrong)?;
    let (digits, unit) = value.split_at(end);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let factor = match unit {
        "M" | "Mi" | "MB" | "MiB" => 1,
        "G" | "Gi" | "GB" | "GiB" => 1024,
        _ => return Err(wrong()),
    };
    match number.checked_mul(factor) {
        Some(size @ 1..) => Ok(size),
        _ => Err(wrong()),
    }
}

impl FromStr for Sharing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, pairs) = pairs(text)?;
        match word {
            "mps" => mps(&pairs).map(Self::Mps),
            "time-slice" => time_slice(&pairs).map(Self::TimeSlice),
            _ => Err(format!(
                "{word:?} is no way to share, expected mps or time-slice"
            )),
        }
    }
}

fn mps(pairs: &[(&str, &str)]) -> Result<Mps, String> {
    let mut wish = Mps::default();
    let mut devices = BTreeMap::new();
    for (key, value) in pairs {
        match *key {
            "pipe-dir" => wish.pipe_dir = absolute(key, value)?,
            "log-dir" => wish.log_dir = absolute(key, value)?,
            "shm-dir" => wish.shm_dir = absolute(key, value)?,
            "threads" => wish.threads = Some(percentage(value)?),
            "memory" => wish.memory = Some(PinnedMemory::Each(mebibytes(value)?)),
            other => {
                let Some(device) = other.strip_prefix("memory.") else {
                    return Err(unknown(
                        other,
                        "pipe-dir, log-dir, shm-dir, threads, memory or memory.N",
                    ));
                };
                devices.insert(number(other, device)?, mebibytes(value)?);
            }
        }
    }
    if !devices.is_empty() {
        if wish.memory.is_some() {
            return Err("memory and memory.N exclude each other".into());
        }
        wish.memory = Some(PinnedMemory::PerDevice(devices));
    }
    Ok(wish)
}

fn time_slice(pairs: &[(&str, &str)]) -> Result<TimeSlice, String> {
    let mut wish = TimeSlice::default();
    for (key, value) in pairs {
        match *key {
            "index" => wish.index = number(key, value)?,
            "config" => wish.config = Some(absolute(key, value)?),
            other => return Err(unknown(other, "index or config")),
        }
    }
    Ok(wish)
}

impl FromStr for Distributed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, pairs) = pairs(text)?;
        let mut wish = Self {
            backend: word.parse()?,
            ..Self::default()
        };
        for (key, value) in pairs {
            match key {
                "master-addr" => wish.master_addr = Some(value.to_owned()),
                "master-port" => wish.master_port = number(key, value)?,
                "world-size" => wish.world_size = number(key, value)?,
                "rank" => wish.rank = number(key, value)?,
                "local-rank" => wish.local_rank = number(key, value)?,
                "interface" => wish.interface = value.to_owned(),
                other => {
                    return Err(unknown(
                        other,
                        "master-addr, master-port, world-size, rank, local-rank or interface",
                    ));
                }
            }
        }
        wish.check()?;
        Ok(wish)
    }
}

impl Distributed {
    /// Whether the numbers fit together.
    ///
    /// # Errors
    /// Which do not.
    pub fn check(&self) -> Result<(), String> {
        if self.world_size == 0 {
            return Err("world-size 0 leaves nobody, expected 1 or more".into());
        }
        if self.master_port == 0 {
            return Err("master-port 0 is no port".into());
        }
        if self.rank >= self.world_size {
            return Err(format!(
                "rank {} is not below world-size {}",
                self.rank, self.world_size
            ));
        }
        if self.local_rank > self.rank {
            return Err(format!(
                "local-rank {} is above rank {}",
                self.local_rank, self.rank
            ));
        }
        Ok(())
    }
}
