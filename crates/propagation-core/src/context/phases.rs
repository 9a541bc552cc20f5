//! The phases of a run as they begin and end, and their checks.

use super::RunContext;
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::report::{Check, PhaseReport, Status};

impl RunContext<'_> {
    /// Records a check of the running phase.
    pub fn check(&mut self, check: Check) {
        if let Some(phase) = self.phases.last_mut() {
            (self.events)(&Event::Checked { phase: &phase.id, check: &check });
            phase.checks.push(check);
        }
    }

    /// The id of the running phase or step; nothing before the first.
    pub(crate) fn step(&self) -> &str {
        self.phases.last().map_or("", |phase| &phase.id)
    }

    /// The checks of the running phase so far.
    pub fn checks(&self) -> &[Check] {
        self.phases.last().map_or(&[], |phase| &phase.checks)
    }

    /// Ends the scenario: the steps that follow are skipped, with this reason.
    pub(crate) fn give_up(&mut self, reason: String) {
        self.gave_up.get_or_insert(reason);
    }

    pub(crate) fn gave_up(&self) -> Option<&str> {
        self.gave_up.as_deref()
    }

    pub(crate) fn has_passed(&self, id: &str) -> bool {
        self.phases.iter().any(|phase| phase.id == id && phase.status == Status::Passed)
    }

    pub(crate) fn skip_phase(&mut self, id: &str, reason: &str) {
        self.open(id, Status::Skipped, Some(reason.into()));
        self.close_phase(None);
    }

    pub(crate) fn begin_phase(&mut self, id: &str) {
        (self.events)(&Event::PhaseStarted { phase: id });
        self.open(id, Status::Passed, None);
    }

    fn open(&mut self, id: &str, status: Status, reason: Option<String>) {
        let mut phase = PhaseReport::new(id, status);
        phase.started_ms = self.started.elapsed().as_secs_f64() * 1e3;
        phase.reason = reason;
        self.phases.push(phase);
        self.open_phase = true;
    }

    pub(crate) fn end_phase(&mut self, error: Option<Error>) {
        self.collect_reports();
        if let Some(phase) = self.phases.last_mut() {
            match error {
                Some(error) => {
                    phase.status = Status::Errored;
                    let fix = error.fix().map(|fix| format!(" ({fix})")).unwrap_or_default();
                    phase.reason = Some(format!("{error}{fix}"));
                }
                None => phase.status = Status::of(&phase.checks),
            }
        }
        self.close_phase(Some(self.started.elapsed().as_secs_f64() * 1e3));
    }

    /// Ends the interrupted phase, or else the phase of `ids` that would have come next, so that the
    /// report of a run that was cut short has a phase that says so.
    pub(crate) fn cut_short(&mut self, ids: &[&str], reason: &str) {
        if !self.open_phase {
            let Some(next) = ids.get(self.phases.len()) else { return };
            self.begin_phase(next);
        }
        self.end_phase(Some(Error::new(ErrorKind::Cancelled, "the phase", reason)));
    }

    fn close_phase(&mut self, now_ms: Option<f64>) {
        self.open_phase = false;
        if let Some(phase) = self.phases.last_mut() {
            phase.duration_ms = now_ms.map_or(0.0, |now| now - phase.started_ms);
            (self.events)(&Event::PhaseEnded(phase));
        }
    }
}
