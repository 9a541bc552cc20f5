//! The consumer's program: it looks whenever something has happened, reports what is new to it, and
//! holds a descriptor.

use super::kernel::Content;
use super::look::Look;
use super::program::timestamp;
use super::record::Program;
use super::world::World;
use crate::Class;
use crate::client::Reported;
use crate::errno::Errno;
use crate::marker::MARKER_FILE;
use crate::observation::{Actor, Outcome, Via};
use crate::plan::Role;

impl World {
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
            let outcome = Outcome::errno(Errno::ENOTCONN, "read");
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
        let look = self.look(at, MARKER_FILE, uid, &[], self.plan.deadlines.probe_ms);
        let superblock = self.kernel.walk(namespace, &directory).map(|place| place.superblock);
        let content = self.listing(&look, superblock, uid);
        let observation = self.observation(Actor::workload(name), Via::Watch, "", uid, look);
        let now = (observation.outcome.class(), observation.generation);
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
        let was_ok = self.last.as_ref().is_some_and(|(class, _)| *class == Class::Ok);
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
