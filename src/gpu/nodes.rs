//! Device nodes of a profile, each with exactly one rule.

use std::path::Path;

use super::inventory::node;
use super::{GpuError, Profile};
use crate::cdi::Mode;
use crate::edit::{Access, DeviceKind, DeviceNode, DeviceRule, Edit};
use crate::host::facts::{FileFacts, Presence};

/// What a node that the host lacks comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// A note: some drivers do not have it.
    Noted,
    /// An error: the container could not use the device.
    Refused,
}

impl Profile<'_, '_> {
    /// Adds the host's node at the same path inside; whether it is there.
    ///
    /// # Errors
    /// As `missing` says, when the container is made.
    pub(super) fn node(&mut self, path: &Path, missing: Missing) -> Result<bool, GpuError> {
        self.node_at(path, path, None, missing)
    }

    /// Adds a node at a path of its own. `major` is the driver's number where
    /// that is known: a node that was made for an earlier one is repaired.
    ///
    /// # Errors
    /// As [`node`](Self::node).
    pub(super) fn node_at(
        &mut self,
        inside: &Path,
        host: &Path,
        major: Option<u32>,
        missing: Missing,
    ) -> Result<bool, GpuError> {
        let Some(facts) = node(self.inventory.snapshot(), host) else {
            let reason = match self.inventory.snapshot().file(host) {
                Some(Presence::Present(other)) => {
                    format!("is {}, not a character device", other.kind.noun())
                }
                Some(Presence::Unknown { reason }) => format!("cannot be examined: {reason}"),
                _ => "is not on the host".to_owned(),
            };
            if missing == Missing::Refused && self.context.mode == Mode::Create {
                return Err(GpuError::Node {
                    what: self.origin.rule.to_string(),
                    reason: format!(
                        "device node {} {reason}; load the driver or make the node",
                        host.display()
                    ),
                });
            }
            self.note(format!("device node {} {reason}", host.display()));
            return Ok(false);
        };
        let numbers = self.numbers(host, facts, major);
        self.push(inside, host, facts, numbers);
        Ok(true)
    }

    fn numbers(&mut self, host: &Path, facts: &FileFacts, driver: Option<u32>) -> (u32, u32) {
        match driver {
            Some(major) if major != facts.major => {
                self.note(format!(
                    "device node {} is {}:{}, but the driver has major {major} now; {major}:{} is used",
                    host.display(),
                    facts.major,
                    facts.minor,
                    facts.minor
                ));
                (major, facts.minor)
            }
            _ => (facts.major, facts.minor),
        }
    }

    fn push(&mut self, inside: &Path, host: &Path, facts: &FileFacts, (major, minor): (u32, u32)) {
        let node = DeviceNode {
            path: inside.to_owned(),
            host_path: host.to_owned(),
            kind: DeviceKind::Char,
            major,
            minor,
            file_mode: Some(facts.mode),
            uid: (self.context.uid > 0).then_some(self.context.uid),
            gid: (self.context.gid > 0).then_some(self.context.gid),
        };
        let already = |planned: &crate::edit::PlannedEdit, wanted: &Edit| planned.edit == *wanted;
        let edit = Edit::AddDevice(node);
        if !self
            .plan
            .edits
            .iter()
            .any(|planned| already(planned, &edit))
        {
            self.plan.push(edit, self.origin.clone());
        }
        let rule = Edit::AllowDevice(DeviceRule {
            allow: true,
            kind: DeviceKind::Char,
            major: Some(major),
            minor: Some(minor),
            access: Access::READ | Access::WRITE,
        });
        if !self
            .plan
            .edits
            .iter()
            .any(|planned| already(planned, &rule))
        {
            self.plan.push(rule, self.origin.clone());
        }
    }
}
