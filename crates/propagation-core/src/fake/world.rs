//! The state of one fake node: its kernel, its files, what has been changed on it, its workloads.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Settings;
use super::files::{File, Files, join};
use super::kernel::{Content, Kernel, Namespace, Superblock};
use super::record::Record;
use crate::backend::Feature;
use crate::errno::Errno;
use crate::error::Error;
use crate::facts::{FuseConf, HostFacts, PathState};
use crate::journal::HostChange;
use crate::marker::PLAIN_FILE;
use crate::mountinfo::MountPath;
use crate::observation::{Actor, Observation};
use crate::plan::{BridgeState, Covering, Plan};
use crate::program::{Refusal, RefusalKind, Refused};

/// Where fusermount3 and the option file are, on the node and in its containers.
pub(super) const FUSERMOUNT3: &str = "/usr/bin/fusermount3";
const FUSE_CONF: &str = "/etc/fuse.conf";

/// Everything that the node and its workloads share, under one lock.
#[derive(Debug)]
pub(super) struct World {
    pub(super) kernel: Kernel,
    pub(super) settings: Settings,
    pub(super) plan: Plan,
    pub(super) started: Instant,
    /// The node's own mount namespace.
    pub(super) node: Namespace,
    /// The filesystem that every container has as its root.
    pub(super) image: u32,
    pub(super) workloads: BTreeMap<u32, Record>,
    pub(super) reports: Vec<Observation>,
    pub(super) closed: bool,
    /// The superblocks on which actors hold a descriptor that the runner asked for.
    pub(super) held: BTreeMap<Actor, u32>,
    /// Changes that were made and have not been undone.
    made: Vec<HostChange>,
}

/// The answer to an operation that the model's kernel refuses.
pub(super) fn refused(operation: impl Into<String>, errno: Errno) -> Refused {
    let refusal = Some(Refusal { kind: RefusalKind::of(errno), errno: Some(errno) });
    Refused { refusal, ..Refused::new(operation, format!("the call gives {errno}")) }
}

fn tmpfs(files: Files) -> Superblock {
    Superblock {
        fs_type: "tmpfs",
        source: "tmpfs".into(),
        options: "rw".into(),
        content: Content::Lower(files),
    }
}

impl World {
    pub(super) fn new(plan: &Plan, settings: Settings, started: Instant) -> Self {
        let mut kernel = Kernel::default();
        let root = kernel.add_superblock(tmpfs(Files::with_directories(&["etc", "mnt", "tmp"])));
        let image = kernel.add_superblock(tmpfs(Files::with_directories(&["etc", "mnt", "tmp"])));
        let node = kernel.add_namespace(root);
        kernel.connect(node, "/", true, false);
        let tmp = kernel.add_superblock(tmpfs(Files::default()));
        kernel.mount(node, "/tmp", tmp);
        let mut world = Self {
            kernel,
            settings,
            plan: plan.clone(),
            started,
            node,
            image,
            workloads: BTreeMap::new(),
            reports: Vec::new(),
            closed: false,
            held: BTreeMap::new(),
            made: Vec::new(),
        };
        world.shape();
        world
    }

    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Makes the node what the plan says.
    fn shape(&mut self) {
        let spec = self.plan.node.clone();
        let bridge = self.plan.bridge.clone();
        let top = covering_directory(&bridge.path);
        for mount in &spec.mounts {
            if mount.at != "/" && mount.at != "/tmp" {
                let own = self.kernel.add_superblock(tmpfs(Files::default()));
                self.kernel.mount(self.node, &mount.at, own);
            }
            let shared = matches!(mount.propagation, Covering::Shared | Covering::Tmpfs);
            let slave = mount.propagation == Covering::Slave;
            self.kernel.connect(self.node, &mount.at, shared, slave);
        }
        if spec.mounts.is_empty() && (spec.covering != Covering::Shared || spec.read_only) {
            if top != "/" && (spec.covering == Covering::Tmpfs || top != "/tmp") {
                let own = self.kernel.add_superblock(tmpfs(Files::default()));
                self.kernel.mount(self.node, &top, own);
            }
            let shared = matches!(spec.covering, Covering::Shared | Covering::Tmpfs);
            let slave = spec.covering == Covering::Slave;
            self.kernel.connect(self.node, &top, shared, slave);
        }
        for (namespace_root, content) in
            [(None, &spec.fuse_conf), (Some(self.image), &spec.container_fuse_conf)]
        {
            let Some(content) = content.clone() else { continue };
            let files = match namespace_root {
                None => self.files(FUSE_CONF).map(|(files, _)| files),
                Some(image) => files_of(&mut self.kernel, image),
            };
            // A node that is being built refuses nothing.
            let _ = files.map(|files| files.put(FUSE_CONF, File::Regular(content)));
        }
        if let Some((files, path)) = self.files(&bridge.path) {
            let _ = match spec.bridge {
                BridgeState::Missing => Ok(()),
                BridgeState::Directory => {
                    files.make_directory(&join(&path, &bridge.mountpoint), 0).map(drop)
                }
                BridgeState::File => files.put(&path, File::Regular("not a directory\n".into())),
                BridgeState::Symlink => files.put(&path, File::Symlink("/var/elsewhere".into())),
            };
            files.read_only = spec.read_only;
        }
    }

    /// The ordinary filesystem at a path of the node, and the path in it.
    pub(super) fn files(&mut self, path: &str) -> Option<(&mut Files, String)> {
        let place = self.kernel.walk(self.node, path)?;
        files_of(&mut self.kernel, place.superblock).map(|files| (files, place.directory))
    }

    pub(super) fn facts(&mut self) -> HostFacts {
        let bridge = self.plan.bridge.path.clone();
        let table = self.kernel.table(self.node);
        let other_uids = self.settings.capabilities.has(Feature::OtherUids);
        HostFacts {
            hostname: "fake-node".into(),
            kernel_release: "0-fake".into(),
            architecture: std::env::consts::ARCH.into(),
            uid: 0,
            user_namespace: !other_uids,
            mapped_uids: if other_uids { u64::from(u32::MAX) } else { 1 },
            fuse_device: self.settings.fuse_device.clone(),
            fuse_device_for_all: true,
            fusermount3: (!self.plan.node.without_host_tools).then(|| FUSERMOUNT3.into()),
            fusermount: None,
            fuse_conf: self.fuse_conf(),
            machine_covering_mount: None,
            covering_mount: table.covering(&MountPath::from(bridge.as_str())).cloned(),
            bridge: self.path_state(&bridge),
            lsm: Vec::new(),
            confinement: Vec::new(),
            cgroup: "none".into(),
            fanotify_mount_events: true,
            kernel: Vec::new(),
            open_files: (u64::from(u32::MAX), u64::from(u32::MAX)),
            max_mnt_namespaces: None,
            runtime: None,
            kubelet: None,
        }
    }

    /// The option file where a producer's fusermount3 reads it: in its container.
    pub(super) fn fuse_conf(&mut self) -> FuseConf {
        let image = files_of(&mut self.kernel, self.image);
        let content = image.and_then(|files| files.get(FUSE_CONF)).and_then(|file| match file {
            File::Regular(content) => Some(content.as_str()),
            _ => None,
        });
        FuseConf {
            path: FUSE_CONF.into(),
            exists: content.is_some(),
            user_allow_other: content.is_some_and(|content| has_line(content, "user_allow_other")),
        }
    }

    fn path_state(&mut self, path: &str) -> PathState {
        let Some((files, path)) = self.files(path) else {
            return PathState::Error { errno: Errno::ENOTCONN };
        };
        match files.get(&path) {
            None => PathState::Missing,
            Some(File::Directory(_)) => PathState::Directory,
            Some(File::Regular(_)) => PathState::Other { what: "a regular file".into() },
            Some(File::Symlink(target)) => {
                PathState::Other { what: format!("a symbolic link to {target:?}") }
            }
        }
    }

    pub(super) fn apply(&mut self, change: &HostChange) -> Result<bool, Error> {
        let failed = |errno: Errno| Error::from(refused(change.to_string(), errno));
        let made = match change {
            HostChange::MakeDirectory { path, owner } => {
                let (files, path) = self.files(path).ok_or_else(|| failed(Errno::ENOTCONN))?;
                files.make_directory(&path, *owner).map_err(failed)?
            }
            HostChange::AddLine { path, line } => {
                let (files, path) = self.files(path).ok_or_else(|| failed(Errno::ENOTCONN))?;
                let mut content = regular(files, &path).map_err(failed)?;
                let missing = !has_line(&content, line);
                if missing {
                    if !content.is_empty() && !content.ends_with('\n') {
                        content.push('\n');
                    }
                    content.push_str(&format!("{line}\n"));
                    files.put(&path, File::Regular(content)).map_err(failed)?;
                }
                missing
            }
        };
        if made {
            self.made.push(change.clone());
        }
        Ok(made)
    }

    pub(super) fn undo(&mut self, change: &HostChange) -> Result<(), Error> {
        let Some(position) = self.made.iter().position(|made| made == change) else {
            return Ok(());
        };
        let failed = |errno: Errno| Error::from(refused(format!("undo: {change}"), errno));
        match change {
            HostChange::MakeDirectory { path, .. } => {
                self.take_off_dead_mounts(path)?;
                let (files, path) = self.files(path).ok_or_else(|| failed(Errno::EBUSY))?;
                // What the producer wrote goes with the directory that was made for it.
                files.remove_directory(&path, PLAIN_FILE).map_err(failed)?;
            }
            HostChange::AddLine { path, line } => {
                let (files, path) = self.files(path).ok_or_else(|| failed(Errno::ENOTCONN))?;
                let content = regular(files, &path).map_err(failed)?;
                let kept: String = content
                    .lines()
                    .filter(|there| there.trim() != line)
                    .map(|there| format!("{there}\n"))
                    .collect();
                if kept.is_empty() {
                    files.remove(&path).map_err(failed)?;
                } else {
                    files.put(&path, File::Regular(kept)).map_err(failed)?;
                }
            }
        }
        self.made.remove(position);
        Ok(())
    }
}

fn files_of(kernel: &mut Kernel, superblock: u32) -> Option<&mut Files> {
    match &mut kernel.superblock_mut(superblock)?.content {
        Content::Lower(files) => Some(files),
        Content::Fuse(_) => None,
    }
}

fn regular(files: &Files, path: &str) -> Result<String, Errno> {
    match files.get(path) {
        None => Ok(String::new()),
        Some(File::Regular(content)) => Ok(content.clone()),
        Some(_) => Err(Errno::EISDIR),
    }
}

fn has_line(content: &str, line: &str) -> bool {
    content.lines().any(|there| there.trim() == line)
}

/// The top-level directory that the bridge lies in; the root itself when it lies in none.
fn covering_directory(bridge: &str) -> String {
    let mut parts = bridge.trim_start_matches('/').split('/');
    match (parts.next(), parts.next()) {
        (Some(first), Some(_)) => format!("/{first}"),
        _ => "/".into(),
    }
}
