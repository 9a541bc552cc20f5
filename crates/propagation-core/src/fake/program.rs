//! The programs in the containers: their state, and how they start.

use super::record::Record;
use super::world::World;
use crate::backend::Feature;
use crate::marker::Marker;
use crate::plan::Role;
use crate::program::ProgramState;

pub(super) fn timestamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(super) fn log(record: &Record, line: String) {
    record.reported.send_modify(|reported| reported.log.push(line));
}

impl World {
    /// Starts the program of a container that has just been made.
    pub(super) fn begin(&mut self, record: &mut Record, marker: &Marker) {
        if record.spec.uid != 0 && !self.settings.capabilities.has(Feature::OtherUids) {
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
}

/// A program that ends at once, with its own words.
fn fail(record: &Record, text: String) {
    record.reported.send_modify(|reported| {
        reported.status.failure = Some(text);
        reported.status.program = ProgramState::Exited { code: 1 };
    });
}
