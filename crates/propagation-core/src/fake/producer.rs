//! The producer's program: a plain file, a FUSE mount, and the end of both.

use super::files::{File, join};
use super::fuse::{Connection, Daemon};
use super::kernel::{Content, Superblock};
use super::program::{log, timestamp};
use super::record::Record;
use super::runtime::never_started;
use super::world::{FUSERMOUNT3, World};
use crate::error::{Error, ErrorKind};
use crate::facts::FuseDevice;
use crate::marker::{Marker, PLAIN_FILE};
use crate::mountinfo::MountEntry;
use crate::plan::Stale;
use crate::program::{ProgramState, Refused};

/// The filesystem type of a producer's mount.
const FS_TYPE: &str = "fuse.propagation";

impl World {
    /// A producer's start: a plain file, away with dead mounts, a new one.
    pub(super) fn serve(&mut self, record: &mut Record, marker: &Marker) -> Result<(), String> {
        let Some(&namespace) = record.namespaces().first() else { return Ok(()) };
        let paths = record.spec.paths(&self.plan.bridge);
        self.write_plain(&paths.source, &paths.destination, record.spec.uid, marker)?;
        let table = self.kernel.table(namespace);
        let stack = table.stack_at(&paths.fuse.as_str().into());
        let dead =
            |mount: &&&MountEntry| mount.fs_type == FS_TYPE && self.is_gone(mount.device.minor);
        let stale = stack.iter().rev().take_while(dead).count();
        let how = record.stale.unwrap_or(self.plan.fuse_of(&record.spec).stale);
        if how == Stale::Fail && stale > 0 {
            return Err(format!(
                "stat {}: Transport endpoint is not connected (ENOTCONN)",
                paths.fuse
            ));
        }
        if record.spec.uid == 0 && how == Stale::Unmount && stale > 0 {
            for _ in 0..stale {
                self.kernel.unmount(namespace, &paths.fuse);
            }
            log(record, format!("[{}] Unmounted {stale} stale mount(s)", timestamp()));
            self.settle();
        }
        self.may_mount(record.spec.uid)?;
        let uid = record.spec.uid;
        let allow_other = self.plan.fuse_of(&record.spec).allow_other;
        let options = if allow_other { ",allow_other" } else { "" };
        let superblock = self.kernel.add_superblock(Superblock {
            fs_type: FS_TYPE,
            source: "propagation-fake".into(),
            options: format!("rw,user_id={uid},group_id={uid}{options}"),
            content: Content::Fuse(Connection {
                daemon: Daemon::Serves,
                marker: marker.clone(),
                owner: uid,
                allow_other,
            }),
        });
        self.kernel.mount(namespace, &paths.fuse, superblock);
        if let Some(container) = &mut record.container {
            container.program.serves = Some(superblock);
        }
        let generation = marker.generation;
        let line = format!("[{}] Mounted {} (generation {generation})", timestamp(), paths.fuse);
        let mounted_at_us = Some(self.now_us());
        record.reported.send_modify(|reported| {
            reported.log.push(line);
            reported.status.mounted_at_us = mounted_at_us;
        });
        Ok(())
    }

    /// The producer's plain file, written into its volume.
    fn write_plain(
        &mut self,
        source: &str,
        destination: &str,
        uid: u32,
        marker: &Marker,
    ) -> Result<(), String> {
        let shown = join(destination, PLAIN_FILE);
        let Some((files, directory)) = self.files(source) else {
            return Err(format!("write {shown}: Transport endpoint is not connected (ENOTCONN)"));
        };
        if let Some(File::Directory(owner)) = files.get(&directory)
            && uid != 0
            && *owner != uid
        {
            return Err(format!("write {shown}: Permission denied (EACCES)"));
        }
        let content = File::Regular(marker.render());
        files
            .put(&join(&directory, PLAIN_FILE), content)
            .map_err(|errno| format!("write {shown}: {errno}"))
    }

    /// Whether a user can mount: root through mount(2), others through fusermount3.
    fn may_mount(&mut self, uid: u32) -> Result<(), String> {
        if uid != 0 && self.plan.node.without_host_tools {
            return Err("run fusermount3: No such file or directory (ENOENT)".into());
        }
        if let FuseDevice::Unusable { errno } = &self.settings.fuse_device {
            return Err(format!("open /dev/fuse: {errno}"));
        }
        if uid != 0 && self.plan.fuse.allow_other && !self.fuse_conf().user_allow_other {
            return Err(format!(
                "{FUSERMOUNT3}: option allow_other only allowed if 'user_allow_other' is set in \
                 /etc/fuse.conf"
            ));
        }
        Ok(())
    }

    /// The connection that the daemon of a producer serves.
    pub(super) fn connection_of(&mut self, number: u32) -> Option<&mut Connection> {
        let container = self.workloads.get(&number)?.container.as_ref()?;
        let superblock = self.kernel.superblock_mut(container.program.serves?)?;
        let Content::Fuse(connection) = &mut superblock.content else { return None };
        Some(connection)
    }

    /// Sets whether the daemon of a producer answers.
    pub(super) fn set_daemon(&mut self, number: u32, daemon: Daemon) {
        if let Some(connection) = self.connection_of(number) {
            connection.daemon = daemon;
        }
    }

    /// Makes a successor serve the connection that a keeper holds.
    pub(super) fn hand_over(
        &mut self,
        number: u32,
        marker: &Marker,
    ) -> Result<Result<(), Refused>, Error> {
        let Some(record) = self.workloads.get_mut(&number) else { return Err(never_started()) };
        let operation = format!("hand over the mount of {}", record.spec.name);
        if record.runs() {
            return Ok(Err(Refused::new(operation, "its daemon lives")));
        }
        if record.kept.is_none() {
            let reason = "nothing is kept for it";
            return Err(Error::new(ErrorKind::Unsupported, operation, reason));
        }
        record.container = record.kept.take();
        let line = format!(
            "[{}] Mounted {} (generation {})",
            timestamp(),
            record.spec.paths(&self.plan.bridge).fuse,
            marker.generation
        );
        let reported = record.reported.clone();
        if let Some(connection) = self.connection_of(number) {
            connection.marker = marker.clone();
            connection.daemon = Daemon::Serves;
        }
        let mounted_at_us = Some(self.now_us());
        reported.send_modify(|reported| {
            reported.log.push(line);
            reported.status.program = ProgramState::Running;
            reported.status.mounted_at_us = mounted_at_us;
        });
        self.settle();
        Ok(Ok(()))
    }

    /// A producer unmounts what it has mounted, as it does on SIGTERM.
    pub(super) fn unmount_own(&mut self, number: u32) {
        let Some(record) = self.workloads.get(&number) else { return };
        let Some(container) = &record.container else { return };
        let path = record.spec.paths(&self.plan.bridge).fuse;
        if let (Some(superblock), Some(&namespace)) =
            (container.program.serves, container.namespaces.first())
            && self.kernel.walk(namespace, &path).is_some_and(|top| top.superblock == superblock)
        {
            self.kernel.unmount(namespace, &path);
        }
    }

    /// Takes mounts of dead producers off a directory of the node.
    ///
    /// # Errors
    /// When a mount is there that is alive, or that no producer has made.
    pub(super) fn take_off_dead_mounts(&mut self, path: &str) -> Result<(), Error> {
        let table = self.kernel.table(self.node);
        let stack = table.stack_at(&path.into());
        let in_use = stack
            .iter()
            .find(|mount| mount.fs_type != FS_TYPE || !self.is_gone(mount.device.minor));
        if let Some(mount) = in_use {
            let operation = format!("remove {path:?}");
            let reason = format!("it is in use: {} is mounted on it", mount.fs_type);
            return Err(Error::new(ErrorKind::Environment, operation, reason)
                .with_fix("stop the workload that mounts there"));
        }
        for _ in 0..stack.len() {
            self.kernel.unmount(self.node, path);
        }
        self.settle();
        Ok(())
    }

    pub(super) fn is_gone(&self, superblock: u32) -> bool {
        match self.kernel.superblock(superblock).map(|superblock| &superblock.content) {
            Some(Content::Fuse(connection)) => connection.daemon == Daemon::Gone,
            _ => true,
        }
    }
}
