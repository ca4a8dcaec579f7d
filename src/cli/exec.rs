//! `exec`. What follows the id is the process's own and never read.

use std::path::PathBuf;

use super::container_id::{self, ContainerId};
use super::values::{self, Refusal};
use crate::cgroup::SubCgroups;

/// Arguments of `exec`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Exec {
    /// Unix socket that gets the terminal's master descriptor
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that gets a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Set an environment variable; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Give the process a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Run as UID, or as UID:GID
    #[arg(short, long, value_name = "UID[:GID]", value_parser = user)]
    pub user: Option<ExecUser>,
    /// Add a supplementary group; may be repeated
    #[arg(short = 'g', long, value_name = "GID", value_parser = additional_gid)]
    pub additional_gids: Vec<u32>,
    /// Read the whole process, as in config.json's process, from FILE
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Return as soon as the process runs
    #[arg(short, long)]
    pub detach: bool,
    /// File that gets the process's id
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// Set no_new_privs, or with =false clear it; else as the container has it
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub no_new_privs: Option<bool>,
    /// Add a capability to the bounding, effective and permitted sets; may be
    /// repeated
    #[arg(short, long, value_name = "CAP")]
    pub cap: Vec<String>,
    /// Pass N descriptors on, from 3 upwards
    #[arg(long, value_name = "N", value_parser = values::count, default_value = "0")]
    pub preserve_fds: u32,
    /// Run in a cgroup that exists below the container's, as PATH, or on cgroup
    /// v1 as CONTROLLER[,CONTROLLER]:PATH; may be repeated there
    #[arg(long = "cgroup", value_name = "[CONTROLLER:]PATH")]
    pub(super) cgroup_words: Vec<String>,
    /// `--cgroup`, read.
    #[arg(skip)]
    pub cgroups: SubCgroups,
    /// Allow it in a paused container
    #[arg(long)]
    pub ignore_paused: bool,
    /// Name of the container
    #[arg(value_name = "container-id", value_parser = container_id::exec_argument)]
    pub id: ContainerId,
    /// Command and its arguments, unless --process is given
    #[arg(value_name = "command")]
    pub args: Vec<String>,
}

/// A user by number; names are the container's affair and not looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecUser {
    /// User id inside the container.
    pub uid: u32,
    /// Group id; `None` keeps the configured one.
    pub gid: Option<u32>,
}

impl Exec {
    /// The second half of reading: what no single word tells.
    pub(super) fn finish(mut self) -> Result<Self, Refusal> {
        self.cgroups = SubCgroups::parse(&std::mem::take(&mut self.cgroup_words))
            .map_err(|error| Refusal::Exec(error.to_string()))?;
        Ok(self)
    }
}

fn user(text: &str) -> Result<ExecUser, Refusal> {
    let id = |what: &str, text: &str| {
        text.parse::<u32>()
            .ok()
            .filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
            // (uid_t)-1 means "leave it" to the kernel: setresuid would keep root.
            .filter(|id| *id != u32::MAX)
            .ok_or_else(|| {
                Refusal::Exec(format!(
                    "bad {what}: {text:?} is not a number from 0 to {}",
                    u32::MAX - 1
                ))
            })
    };
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    let gid = gid.map(|gid| id("gid", gid)).transpose()?;
    Ok(ExecUser {
        uid: id("uid", uid)?,
        gid,
    })
}

fn additional_gid(text: &str) -> Result<u32, Refusal> {
    let value = values::integer(text)?;
    if value < 0 {
        return Err(Refusal::Exec(format!(
            "additional-gids must be a positive number {value}"
        )));
    }
    u32::try_from(value)
        .ok()
        .filter(|gid| *gid != u32::MAX)
        .ok_or_else(|| Refusal::Exec(format!("additional-gids: {value} is not a group id")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        let table = [
            ("0", 0, None),
            ("1000", 1000, None),
            ("1000:100", 1000, Some(100)),
            ("4294967294:4294967294", 4_294_967_294, Some(4_294_967_294)),
        ];
        for (text, uid, gid) in table {
            assert_eq!(user(text), Ok(ExecUser { uid, gid }), "{text}");
        }
    }

    #[test]
    fn what_looks_like_root_to_a_lax_parser_is_refused() {
        for text in [
            "",
            ":",
            "root",
            "-1",
            "+0",
            "0x0",
            " 0",
            "0 ",
            "1000:",
            ":0",
            "0:0:0",
            "4294967295",
            "4294967296",
            "1.0",
            "1000\n",
            "0\0",
        ] {
            let error = user(text).unwrap_err();
            assert!(
                matches!(&error, Refusal::Exec(why) if why.starts_with("bad uid: ") || why.starts_with("bad gid: ")),
                "{text:?}: {error}"
            );
        }
    }
}
