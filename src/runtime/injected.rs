//! What a container was given beyond its engine's configuration, as
//! `state.json` keeps it for those who give, take and repair devices later.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::edit::{Edit, Plan, Rule};

/// CDI devices by name, and where nodes are on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Injected {
    /// Qualified names, in the order in which they were given.
    pub names: Vec<String>,
    /// Directories that were searched instead of the usual ones.
    pub cdi_dirs: Vec<PathBuf>,
    /// Nodes that were injected: path in the container, path on the host. Other
    /// nodes of the configuration are the engine's, which alone knows what they
    /// are on the host.
    pub host_paths: Vec<(PathBuf, PathBuf)>,
}

impl Injected {
    /// Adds what a plan gives.
    pub fn add(&mut self, plan: &Plan, cdi_dirs: &[PathBuf]) {
        for planned in &plan.edits {
            if let Rule::CdiDevice { name, .. } = &planned.origin.rule {
                let name = name.to_string();
                if !self.names.contains(&name) {
                    self.names.push(name);
                }
            }
            if let Edit::AddDevice(node) = &planned.edit {
                self.host_paths.retain(|(path, _)| *path != node.path);
                self.host_paths
                    .push((node.path.clone(), node.host_path.clone()));
            }
        }
        for dir in cdi_dirs {
            if !self.cdi_dirs.contains(dir) {
                self.cdi_dirs.push(dir.clone());
            }
        }
    }

    /// Where an injected node is on the host.
    #[must_use]
    pub fn host_path(&self, path: &Path) -> Option<&Path> {
        self.host_paths
            .iter()
            .find(|(inside, _)| inside == path)
            .map(|(_, host)| host.as_path())
    }
}
