//! The mounts of daemons that are not the built-in one: they call their source what they like, so they are known by
//! their place, which was free and is noted before such a daemon starts.

use std::collections::BTreeSet;
use std::fs;

use mountinfo::MountEntry;
use propagation_model::plan::Role;
use propagation_protocol::{ContainerSpec, Failure};

use super::state::Host;
use crate::changes::replace;
use crate::failure::system;
use crate::mounts::errno_of;

impl Host {
    /// Notes where the daemons of containers mount that are not the built-in one.
    pub(super) fn note_external(&self, containers: &[ContainerSpec]) -> Result<(), Failure> {
        let external =
            containers.iter().filter(|spec| spec.role == Role::Producer && !spec.fuse.is_builtin());
        let mut paths = self.external_paths();
        let before = paths.len();
        for path in external.filter_map(on_node) {
            if !paths.contains(&path) {
                self.check_mounts_at(&path)?;
                paths.insert(path);
            }
        }
        if paths.len() == before {
            return Ok(());
        }
        let lines: String = paths.iter().map(|path| format!("{path}\n")).collect();
        let file = self.layout.external();
        replace(&file, lines.as_bytes(), None)
            .map_err(|error| system(format!("write {file}"), errno_of(&error)))
    }

    /// Where such daemons of the run mount.
    pub(super) fn external_paths(&self) -> BTreeSet<String> {
        let text = fs::read_to_string(self.layout.external()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Whether a mount of the node is the run's.
    pub(super) fn is_own(&self, mount: &MountEntry) -> bool {
        let place = || mount.mount_point.to_string_lossy().into_owned();
        mount.source.to_string() == self.source()
            || (mount.is_fuse() && self.external_paths().contains(&place()))
    }
}

/// Where the daemon of a container mounts, as the node has it.
fn on_node(spec: &ContainerSpec) -> Option<String> {
    if spec.host {
        return Some(spec.fuse_path.clone());
    }
    let volume = spec.volumes.first()?;
    let below = spec.fuse_path.strip_prefix(&volume.destination)?;
    Some(format!("{}{below}", volume.source))
}
