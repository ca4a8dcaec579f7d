//! The device filter on cgroup v2: an eBPF program attached to the container's
//! cgroup.
//!
//! Programs of a cgroup and of its ancestors must *all* allow an access, so a
//! program of somebody else (systemd's, say) can take away but never give.
//! Those are left alone; only programs with our name are replaced or detached.
//!
//! # How a filter is recognised
//!
//! The kernel gives every program an id, unique among those loaded, and notes
//! when it was loaded; a program's code cannot change afterwards. An id may be
//! given again after its program is gone, but then with a later time. So (id,
//! load time), read from the descriptor of the program that we loaded ourselves
//! and found again in the list of those attached, names that program and no
//! other until the machine reboots, and with it the state that holds the pair.
//! Name and tag are compared as well, which costs nothing; they are what people
//! see in `bpftool cgroup show`, and on their own would prove little.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::program::Program;
use super::{DeviceError, Standing};
use crate::sys::bpf;

/// The name our programs have; at most 15 bytes.
const NAME: &CStr = c"kusabi_devices";

/// How often a change by somebody else between looking and replacing is met
/// with another look.
const ATTEMPTS: u32 = 10;

/// Room for the verifier's explanation: what matters is at its end.
const LOG: usize = 1 << 20;

/// The identity of an attached program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramId {
    /// The kernel's id.
    pub id: u32,
    /// The kernel's hash of the instructions, in hexadecimal, as bpftool shows it.
    pub tag: String,
    /// When it was loaded, in ns since boot.
    pub load_time: u64,
}

impl From<&bpf::ProgramInfo> for ProgramId {
    fn from(info: &bpf::ProgramInfo) -> Self {
        Self {
            id: info.id,
            tag: info.tag.iter().map(|byte| format!("{byte:02x}")).collect(),
            load_time: info.load_time,
        }
    }
}

/// A device program that is attached to a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attached {
    /// Its identity; `None` when the kernel does not let us look.
    #[serde(flatten)]
    pub program: Option<ProgramId>,
    /// Its name, which anybody may have chosen.
    pub name: String,
    /// Whether the name is ours.
    pub ours: bool,
}

/// An attached program and, where we may look, a descriptor of it.
struct Found {
    id: u32,
    program: Option<(OwnedFd, bpf::ProgramInfo)>,
}

impl Found {
    fn ours(&self) -> Option<&OwnedFd> {
        self.program
            .as_ref()
            .filter(|(_, info)| info.is_device && info.name == NAME.to_bytes())
            .map(|(fd, _)| fd)
    }
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> DeviceError {
    move |source| DeviceError::Bpf { action, source }
}

/// Loads the program and attaches it to a cgroup, atomically in the place of an
/// earlier one of ours, and checks that it is there.
///
/// # Errors
/// [`DeviceError::Bpf`]; an earlier program then stays in force.
/// [`DeviceError::Gone`] when it was attached and is not there.
pub fn install(cgroup: BorrowedFd<'_>, program: &Program) -> Result<ProgramId, DeviceError> {
    let new = load(program)?;
    let identity = bpf::program_info(new.as_fd()).map_err(failed("identify"))?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let found = programs(cgroup)?;
        let mut ours = found.iter().filter_map(Found::ours);
        let Some(first) = ours.next() else {
            bpf::attach_device_program(cgroup, new.as_fd(), None).map_err(failed("attach"))?;
            break;
        };
        match bpf::attach_device_program(cgroup, new.as_fd(), Some(first.as_fd())) {
            Ok(()) => {}
            // Somebody else was faster: look again.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) && attempt < ATTEMPTS => {
                continue;
            }
            // Before 5.6. Both at once only deny more; never is none there.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                bpf::attach_device_program(cgroup, new.as_fd(), None).map_err(failed("attach"))?;
                detach_one(cgroup, first.as_fd())?;
            }
            Err(error) => return Err(failed("replace")(error)),
        }
        for stale in ours {
            detach_one(cgroup, stale.as_fd())?;
        }
        break;
    }
    let identity = ProgramId::from(&identity);
    verify(cgroup, &identity)?;
    Ok(identity)
}

/// Checks that this very program is attached to this very cgroup.
///
/// # Errors
/// [`DeviceError::Gone`] when it is not attached, [`DeviceError::Changed`] when
/// another program has its id, [`DeviceError::Bpf`] when that cannot be found out.
pub fn verify(cgroup: BorrowedFd<'_>, expected: &ProgramId) -> Result<Standing, DeviceError> {
    let ids = bpf::device_programs(cgroup).map_err(failed("query"))?;
    if !ids.contains(&expected.id) {
        return Err(DeviceError::Gone {
            id: expected.id,
            attached: if ids.is_empty() {
                "none".to_owned()
            } else {
                ids.iter()
                    .map(u32::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            },
        });
    }
    let program = bpf::program_by_id(expected.id).map_err(failed("identify"))?;
    let info = bpf::program_info(program.as_fd()).map_err(failed("identify"))?;
    let actual = ProgramId::from(&info);
    if actual != *expected || !info.is_device || info.name != NAME.to_bytes() {
        return Err(DeviceError::Changed(format!(
            "program {} is \"{}\", tag {}, loaded at {} ns, and should have tag {}, loaded at {} ns",
            expected.id,
            String::from_utf8_lossy(&info.name).escape_debug(),
            actual.tag,
            actual.load_time,
            expected.tag,
            expected.load_time
        )));
    }
    Ok(match ids.len() - 1 {
        0 => Standing::Exact,
        others => Standing::Narrower(format!(
            "device programs attached to the cgroup beside the filter: {others}"
        )),
    })
}

/// Detaches every program of ours, and no other. Removing the cgroup does so too.
///
/// # Errors
/// [`DeviceError::Bpf`].
pub fn detach(cgroup: BorrowedFd<'_>) -> Result<(), DeviceError> {
    programs(cgroup)?
        .iter()
        .filter_map(Found::ours)
        .try_for_each(|program| detach_one(cgroup, program.as_fd()))
}

/// The device programs attached to this very cgroup, anybody's.
///
/// # Errors
/// [`DeviceError::Bpf`].
pub fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<Attached>, DeviceError> {
    Ok(programs(cgroup)?
        .iter()
        .map(|found| Attached {
            program: found.program.as_ref().map(|(_, info)| info.into()),
            name: found.program.as_ref().map_or_else(
                || format!("program {}", found.id),
                |(_, info)| String::from_utf8_lossy(&info.name).into_owned(),
            ),
            ours: found.ours().is_some(),
        })
        .collect())
}

fn load(program: &Program) -> Result<OwnedFd, DeviceError> {
    let code = program.bytes();
    bpf::load_device_program(&code, NAME, None).map_err(|source| {
        if matches!(
            source.raw_os_error(),
            Some(libc::EACCES | libc::EINVAL | libc::E2BIG)
        ) {
            explain(&code);
        }
        failed("load")(source)
    })
}

/// Asks the verifier once more, for its reasons: a mistake of ours, for which
/// one line is too short.
fn explain(code: &[u8]) {
    let mut log = vec![0; LOG];
    if bpf::load_device_program(code, NAME, Some(&mut log)).is_err() {
        let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
        let end = &text[text.len().saturating_sub(4096)..];
        tracing::debug!(
            instructions = code.len() / 8,
            log = %String::from_utf8_lossy(end),
            "the kernel's verifier refused the device program"
        );
    }
}

fn programs(cgroup: BorrowedFd<'_>) -> Result<Vec<Found>, DeviceError> {
    let ids = bpf::device_programs(cgroup).map_err(failed("query"))?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        let program = match bpf::program_by_id(id) {
            Ok(fd) => {
                let info = bpf::program_info(fd.as_fd()).map_err(failed("identify"))?;
                Some((fd, info))
            }
            // Detached and freed since.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            // A security module may hide other people's programs. Ours it
            // would have to let us use.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            Err(error) => return Err(failed("identify")(error)),
        };
        found.push(Found { id, program });
    }
    Ok(found)
}

fn detach_one(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), DeviceError> {
    match bpf::detach_device_program(cgroup, program) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(failed("detach")(error)),
        _ => Ok(()),
    }
}
