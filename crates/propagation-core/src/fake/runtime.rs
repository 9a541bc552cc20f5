//! The container runtime's part of the model: creating, restarting and re-binding containers, with
//! the checks of containerd and in its words.

use super::fuse::Denied;
use super::kernel::Content;
use super::record::{Container, Program, Record};
use super::world::{World, refused};
use crate::Signal;
use crate::backend::Feature;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind};
use crate::marker::Marker;
use crate::mountinfo::{MountEntry, MountPath, MountPropagation};
use crate::plan::{Propagation, Stale, WorkloadSpec};
use crate::program::{Attach, Attached, ProgramState, RefusalKind, Refused, StartRefused};
use crate::workload::WorkloadStatus;

impl World {
    /// The workload that runs under a name.
    pub(super) fn running(&self, name: &str) -> Option<&Record> {
        self.workloads
            .values()
            .find(|record| record.spec.name == name && record.container.is_some())
    }

    /// Starts workloads in order; the number of each that was made.
    pub(super) fn start(
        &mut self,
        specs: &[WorkloadSpec],
        marker: &Marker,
    ) -> Result<Vec<Result<u32, StartRefused>>, Error> {
        for (position, spec) in specs.iter().enumerate() {
            let twice = specs[..position].iter().any(|other| other.name == spec.name);
            if twice || self.running(&spec.name).is_some() {
                let operation = format!("start {:?}", spec.name);
                let reason = "a workload of that name runs already";
                return Err(Error::new(ErrorKind::InvalidInput, operation, reason)
                    .with_fix("stop it first, or use another name"));
            }
            if spec.replicas > 1 && !self.settings.capabilities.has(Feature::Replicas) {
                let operation = format!("start {} replicas of {:?}", spec.replicas, spec.name);
                let reason = "not declared: replicas";
                return Err(Error::new(ErrorKind::Unsupported, operation, reason));
            }
        }
        let mut started = Vec::with_capacity(specs.len());
        for spec in specs {
            let number = self.workloads.keys().next_back().map_or(0, |last| last + 1);
            let mut record = Record::new(spec.clone());
            started.push(self.create(&mut record, marker).map(|()| number));
            if record.container.is_some() {
                self.workloads.insert(number, record);
                self.settle();
            }
        }
        Ok(started)
    }

    /// Makes the container of a workload and starts its program.
    fn create(&mut self, record: &mut Record, marker: &Marker) -> Result<(), StartRefused> {
        let spec = &record.spec;
        let paths = spec.paths(&self.plan.bridge);
        self.check_source(&paths.source)?;
        self.check_covering(spec, &paths.source)?;
        let mut namespaces = Vec::new();
        for _ in 0..spec.replicas {
            let namespace = self.kernel.add_namespace(self.image);
            let foreign = self.settings.user_namespaces;
            let (from, to) = ((self.node, &*paths.source), (namespace, &*paths.destination));
            self.kernel.bind_volume(from, to, spec.propagation, foreign);
            namespaces.push(namespace);
        }
        let program = Program::default();
        record.container = Some(Container { namespaces, program, stopped: false });
        record.reported.send_modify(|reported| reported.status = WorkloadStatus::default());
        self.begin(record, marker);
        Ok(())
    }

    /// containerd stats the source of a volume, and makes a directory where there is nothing.
    fn check_source(&mut self, source: &str) -> Result<(), StartRefused> {
        let place = self.kernel.walk(self.node, source);
        let superblock = place.and_then(|place| self.kernel.superblock(place.superblock));
        let refused = |text: String, errno: Errno| StartRefused::with(errno, text);
        if let Some(Content::Fuse(connection)) = superblock.map(|superblock| &superblock.content) {
            return connection.enter(0).map_err(|denied| match denied {
                Denied::Errno(errno) => {
                    let words = go_words(errno);
                    refused(format!("failed to stat {source:?}: stat {source}: {words}"), errno)
                }
                Denied::Hang => StartRefused::of(
                    RefusalKind::Hangs,
                    format!(
                        "failed to stat {source:?}: no answer in {} ms",
                        self.plan.deadlines.probe_ms
                    ),
                ),
            });
        }
        let made = match self.files(source) {
            Some((files, path)) => files.make_directory(&path, 0).map(drop),
            None => Ok(()),
        };
        made.map_err(|errno| {
            let words = go_words(errno);
            refused(format!("failed to mkdir {source:?}: mkdir {source}: {words}"), errno)
        })
    }

    /// containerd refuses a volume whose covering mount does not propagate as its mode needs.
    fn check_covering(&self, spec: &WorkloadSpec, source: &str) -> Result<(), StartRefused> {
        let words = match spec.propagation {
            Propagation::None => return Ok(()),
            Propagation::HostToContainer => "a shared or slave mount",
            Propagation::Bidirectional => "a shared mount",
        };
        let table = self.kernel.table(self.node);
        let Some(mount) = table.covering(&MountPath::from(source)) else { return Ok(()) };
        let fits = match mount.propagation() {
            MountPropagation::Shared | MountPropagation::SlaveAndShared => true,
            MountPropagation::Slave => spec.propagation == Propagation::HostToContainer,
            MountPropagation::Private | MountPropagation::Unbindable => false,
        };
        if fits {
            return Ok(());
        }
        let at = mount.mount_point.to_string_lossy();
        let text = format!("path {source:?} is mounted on {at:?} but it is not {words}");
        Err(StartRefused::of(RefusalKind::NotShared, text))
    }

    pub(super) fn restart(
        &mut self,
        number: u32,
        marker: &Marker,
        stale: Option<Stale>,
    ) -> Result<Result<(), StartRefused>, Error> {
        self.end(number, ProgramState::Signaled { signal: Signal::SIGKILL });
        let Some(mut record) = self.workloads.remove(&number) else { return Err(never_started()) };
        record.stale = stale;
        let created = self.create(&mut record, marker);
        self.workloads.insert(number, record);
        self.settle();
        Ok(created)
    }

    /// Gives a workload the node's mount. All of it happens at once, so that no actor looks meanwhile.
    pub(super) fn attach(
        &mut self,
        number: u32,
        how: Attach,
    ) -> Result<Result<Attached, Refused>, Error> {
        let done = match how {
            Attach::Rebind => self.rebind(number, None)?,
            Attach::Reconnect => self.reconnect(number)?,
        };
        self.settle();
        Ok(done.map(|()| Attached { hole: Some(false) }))
    }

    /// Puts a copy of the node's fresh mount where a workload's stale one is, with the same propagation or a given
    /// one.
    fn rebind(
        &mut self,
        number: u32,
        wanted: Option<Propagation>,
    ) -> Result<Result<(), Refused>, Error> {
        let Some(record) = self.workloads.get(&number) else { return Err(never_started()) };
        let arriving = record.spec.propagation;
        let path = record.spec.paths(&self.plan.bridge).fuse;
        let namespaces = record.namespaces().to_vec();
        if namespaces.is_empty() {
            let operation = format!("re-bind in {:?}", record.spec.name);
            return Err(Error::new(ErrorKind::InvalidInput, operation, "it has ended"));
        }
        let fresh = self.plan.mountpoint_of(&record.spec);
        let top = self.kernel.table(self.node);
        let lives = |mount: &&MountEntry| mount.is_fuse() && !self.is_gone(mount.device.minor);
        let Some(device) = top.at(&fresh.as_str().into()).filter(lives).map(|mount| mount.device)
        else {
            return Ok(Err(refused(
                "re-bind in a container: no mount lives on the node",
                Errno::ENOTCONN,
            )));
        };
        for namespace in namespaces {
            let table = self.kernel.table(namespace);
            let stale = table.at(&path.as_str().into()).filter(|mount| mount.is_fuse());
            // It has propagated there by itself.
            let received = |mount: &MountEntry| {
                mount.device == device && mount.propagation() != MountPropagation::Private
            };
            if stale.is_some_and(received) {
                continue;
            }
            let mode = wanted.or(stale.map(|stale| mode_of(stale.propagation())));
            // The copy is taken first: from a consumer that shares, the unmount propagates to the node.
            let copy = self.kernel.copy_of((self.node, &fresh), mode.unwrap_or(arriving));
            if stale.is_some() {
                self.kernel.unmount(namespace, &path);
            }
            if let Some(copy) = copy {
                self.kernel.mount_copy(namespace, &path, copy);
            }
        }
        Ok(Ok(()))
    }

    /// Makes a workload's private volume a slave of the node's mount, and puts the fresh mount into it.
    fn reconnect(&mut self, number: u32) -> Result<Result<(), Refused>, Error> {
        let Some(record) = self.workloads.get(&number) else { return Err(never_started()) };
        let paths = record.spec.paths(&self.plan.bridge);
        let path = self.plan.mountpoint_of(&record.spec);
        let namespaces = record.namespaces().to_vec();
        for namespace in namespaces {
            let (from, to) = ((self.node, &*paths.source), (namespace, &*paths.destination));
            if !self.kernel.join_as_slave(from, to) {
                let operation = format!("reconnect {:?}", paths.destination);
                return Ok(Err(refused(operation, Errno::EINVAL)));
            }
        }
        let node = self.kernel.table(self.node);
        let lives = node
            .at(&path.as_str().into())
            .is_some_and(|mount| mount.is_fuse() && !self.is_gone(mount.device.minor));
        if lives { self.rebind(number, Some(Propagation::HostToContainer)) } else { Ok(Ok(())) }
    }

    /// Binds the mount at a mountpoint of the node over itself, or in the place of all layers that are there.
    pub(super) fn rebind_host(
        &mut self,
        path: &str,
        deduplicate: bool,
    ) -> Result<Result<(), Refused>, Error> {
        if self.kernel.walk(self.node, path).is_none() {
            return Ok(Err(refused(format!("bind {path:?} over itself"), Errno::ENOENT)));
        }
        match deduplicate {
            true => self.kernel.keep_only_the_top(self.node, path),
            false => self.kernel.bind((self.node, path), (self.node, path)),
        }
        self.settle();
        Ok(Ok(()))
    }
}

impl World {
    /// Takes the topmost mount off a mountpoint of the node.
    pub(super) fn unmount_on_node(&mut self, path: &str) -> Result<Result<(), Refused>, Error> {
        if self.kernel.table(self.node).at(&path.into()).is_none() {
            return Ok(Err(refused(format!("unmount {path:?}"), Errno::EINVAL)));
        }
        self.kernel.unmount(self.node, path);
        self.settle();
        Ok(Ok(()))
    }
}

/// The mode of a volume in which a mount would have this propagation.
fn mode_of(propagation: MountPropagation) -> Propagation {
    match propagation {
        MountPropagation::Private | MountPropagation::Unbindable => Propagation::None,
        MountPropagation::Slave => Propagation::HostToContainer,
        MountPropagation::Shared | MountPropagation::SlaveAndShared => Propagation::Bidirectional,
    }
}

pub(super) fn never_started() -> Error {
    Error::new(ErrorKind::Internal, "find a workload", "the node has never started it")
}

/// The words that Go programs, and so container runtimes, have for an errno.
fn go_words(errno: Errno) -> String {
    let words = match errno {
        Errno::ENOTCONN => "transport endpoint is not connected",
        Errno::EACCES => "permission denied",
        Errno::EROFS => "read-only file system",
        Errno::ENOTDIR => "not a directory",
        Errno::EEXIST => "file exists",
        other => return other.to_string(),
    };
    words.to_owned()
}
