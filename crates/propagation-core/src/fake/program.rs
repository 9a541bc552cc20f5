//! The programs in the containers: a producer that mounts and serves, a consumer that watches.

use super::files::{File, join};
use super::fuse::{Connection, Daemon};
use super::kernel::{Content, Superblock};
use super::look::Look;
use super::runtime::{Record, Reported};
use super::world::{FUSERMOUNT3, World};
use crate::error::{Error, ErrorKind};
use crate::facts::FuseDevice;
use crate::marker::{MARKER_FILE, Marker, PLAIN_FILE};
use crate::observation::{Actor, Outcome, Via};
use crate::plan::Role;
use crate::program::ProgramState;

/// The filesystem type of a producer's mount.
const FS_TYPE: &str = "fuse.propagation";

/// What a program remembers.
#[derive(Debug, Default)]
pub(super) struct Program {
    /// A producer's connection.
    serves: Option<u32>,
    /// The superblock of a consumer's held descriptor.
    holds: Option<u32>,
    /// What a consumer saw last: class and generation.
    last: Option<(String, Option<u64>)>,
    /// Whether a consumer has found the marker.
    ready: bool,
}

fn timestamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn log(record: &Record, line: String) {
    record.reported.send_modify(|reported| reported.log.push(line));
}

impl World {
    /// Starts the program of a container that has just been made.
    pub(super) fn begin(&mut self, record: &mut Record, marker: &Marker) {
        if record.spec.uid != 0 && !self.settings.capabilities.other_uids {
            fail(record, "enter the container: Invalid argument (EINVAL)".into());
            return;
        }
        if record.spec.role == Role::Producer {
            if let Err(text) = self.serve(record, marker) {
                log(record, format!("[{}] ERROR: {text}", timestamp()));
                fail(record, text);
            }
            return;
        }
        let mountpoint = record.spec.paths(&self.plan.bridge).fuse;
        log(record, format!("Waiting for {mountpoint} (the fake node's own events)"));
    }

    /// A producer's start: a plain file, away with dead mounts, a new one.
    fn serve(&mut self, record: &mut Record, marker: &Marker) -> Result<(), String> {
        let Some(&namespace) = record.namespaces().first() else { return Ok(()) };
        let paths = record.spec.paths(&self.plan.bridge);
        self.write_plain(&paths.source, &paths.destination, record.spec.uid, marker)?;
        let stale = self.kernel.table(namespace);
        let stale = stale.stack_at(&paths.fuse.as_str().into());
        let stale = stale.iter().filter(|mount| mount.fs_type == FS_TYPE).count();
        if record.spec.uid == 0 && stale > 0 {
            for _ in 0..stale {
                self.kernel.unmount(namespace, &paths.fuse);
            }
            log(record, format!("[{}] Unmounted {stale} stale mount(s)", timestamp()));
            self.settle();
        }
        self.may_mount(record.spec.uid)?;
        let uid = record.spec.uid;
        let allow_other = self.plan.allow_other;
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
        if uid != 0 && self.plan.allow_other && !self.fuse_conf().user_allow_other {
            return Err(format!(
                "{FUSERMOUNT3}: option allow_other only allowed if 'user_allow_other' is set in \
                 /etc/fuse.conf"
            ));
        }
        Ok(())
    }

    /// Sets whether the daemon of a producer answers.
    pub(super) fn set_daemon(&mut self, number: u32, daemon: Daemon) {
        let program = self.workloads.get(&number).and_then(|record| record.container.as_ref());
        let Some(superblock) = program.and_then(|container| container.program.serves) else {
            return;
        };
        if let Some(Content::Fuse(connection)) =
            self.kernel.superblock_mut(superblock).map(|superblock| &mut superblock.content)
        {
            connection.daemon = daemon;
        }
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

    /// Lets every consumer's program look, until all have reported what is new to them.
    pub(super) fn settle(&mut self) {
        let numbers: Vec<u32> = self.workloads.keys().copied().collect();
        for number in numbers {
            self.look_again(number);
        }
    }

    fn look_again(&mut self, number: u32) {
        let Some(record) = self.workloads.get(&number) else { return };
        let Some(container) = record.container.as_ref().filter(|container| !container.stopped)
        else {
            return;
        };
        let Some(&namespace) = container.namespaces.first() else { return };
        if record.spec.role == Role::Producer || !record.runs() {
            return;
        }
        let (name, uid) = (record.spec.name.clone(), record.spec.uid);
        let directory = record.spec.paths(&self.plan.bridge).fuse;
        let holds = container.program.holds;
        if holds.is_some_and(|superblock| self.is_gone(superblock)) {
            let outcome = Outcome::errno("ENOTCONN", "read");
            let look = Look { outcome: outcome.clone(), generation: None, mount: None };
            let actor = Actor::HeldDescriptor { name: name.clone() };
            let report = self.observation(actor, Via::Watch, "", uid, look);
            self.reports.push(report);
            self.update(number, |program, reported| {
                program.holds = None;
                reported.status.held = Some(outcome);
            });
        }
        let at = (namespace, directory.as_str());
        let look = self.look(at, MARKER_FILE, uid, None, self.plan.deadlines.probe_ms);
        let superblock = self.kernel.walk(namespace, &directory).map(|place| place.superblock);
        let content = self.listing(&look, superblock, uid);
        let observation = self.observation(Actor::workload(name), Via::Watch, "", uid, look);
        let now = (observation.outcome.class().to_owned(), observation.generation);
        let report = observation.clone();
        let mut new = false;
        self.update(number, |program, reported| {
            new = program.last.as_ref() != Some(&now);
            if !new {
                return;
            }
            let lines = program.lines(&directory, &observation.outcome, &content);
            reported.log.extend(lines);
            if observation.outcome.is_ok() && program.holds.is_none() {
                program.holds = superblock;
            }
            program.last = Some(now);
            reported.status.seen = Some(observation);
        });
        if new {
            self.reports.push(report);
        }
    }

    /// What `ls -l` and `cat` show a consumer that has found the marker.
    fn listing(&self, look: &Look, superblock: Option<u32>, uid: u32) -> Vec<String> {
        let superblock = superblock.and_then(|minor| self.kernel.superblock(minor));
        match superblock.map(|superblock| &superblock.content) {
            Some(Content::Fuse(connection)) if look.outcome.is_ok() => {
                let content = connection.read(MARKER_FILE, uid).unwrap_or_default();
                let owner = connection.owner;
                let size = content.len();
                let mut lines = vec![format!("-rw-r--r-- 1 {owner} {owner} {size} {MARKER_FILE}")];
                lines.push("=== Reading Producer Files ===".into());
                lines.extend(content.lines().map(ToOwned::to_owned));
                lines
            }
            _ => Vec::new(),
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

    fn is_gone(&self, superblock: u32) -> bool {
        match self.kernel.superblock(superblock).map(|superblock| &superblock.content) {
            Some(Content::Fuse(connection)) => connection.daemon == Daemon::Gone,
            _ => true,
        }
    }

    fn update(&mut self, number: u32, change: impl FnOnce(&mut Program, &mut Reported)) {
        if let Some(record) = self.workloads.get_mut(&number)
            && let Some(container) = &mut record.container
        {
            record.reported.send_modify(|reported| change(&mut container.program, reported));
        }
    }
}

impl Program {
    /// What a consumer logs of something new.
    fn lines(&mut self, mountpoint: &str, outcome: &Outcome, content: &[String]) -> Vec<String> {
        let now = timestamp();
        let was_ok = self.last.as_ref().is_some_and(|(class, _)| class == "ok");
        let mut lines = Vec::new();
        if outcome.is_ok() && !self.ready {
            self.ready = true;
            lines.push(format!("SUCCESS: Producer marker found at {now}"));
            lines.push(format!("=== Full {mountpoint} Contents ==="));
            lines.extend(content.iter().cloned());
            lines.push("[Consumer Ready]".into());
        }
        if outcome.is_ok() {
            lines.push(format!("[{now}] Mount is accessible"));
        } else if was_ok {
            lines.push(format!("[{now}] ERROR: Mount became inaccessible! ({outcome})"));
        }
        lines
    }
}

/// A program that ends at once, with its own words.
fn fail(record: &Record, text: String) {
    record.reported.send_modify(|reported| {
        reported.status.failure = Some(text);
        reported.status.program = ProgramState::Exited { code: 1 };
    });
}
