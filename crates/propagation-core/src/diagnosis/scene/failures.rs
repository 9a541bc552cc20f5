//! Starts and mounts that did not come about.

use super::{Scene, When};
use crate::mountinfo::MountEntry;
use crate::observation::Actor;
use crate::program::RefusalKind;
use crate::report::{Failure, FailureOf};

impl<'r> Scene<'r> {
    /// Starts that were refused for a reason, each workload and each text once, with the runtime's words.
    pub(in super::super) fn refusals(&self, kind: RefusalKind) -> Vec<(&'r str, &'r str)> {
        self.failures_of(|failure| failure.refusal == Some(kind))
    }

    /// Starts that were refused for a reason; only those that never came about, where there are any.
    pub(in super::super) fn refused(&self, kind: RefusalKind) -> Vec<&'r Failure> {
        self.not_over(|failure| failure.refusal == Some(kind))
    }

    /// Mounts that did not come about; only those that never did, where there are any.
    pub(in super::super) fn failed_mounts(&self) -> Vec<&'r Failure> {
        self.not_over(|failure| failure.of == FailureOf::Mount)
    }

    /// The mounts of a producer that did not come about.
    pub(in super::super) fn mount_failures_of(&self, name: &str) -> Vec<&'r Failure> {
        let of_it = |failure: &&Failure| failure.workload == name && failure.of != FailureOf::Start;
        self.report.failures.iter().filter(of_it).collect()
    }

    /// The failures that fit: those that are not over, or all where each is.
    pub(in super::super) fn not_over(&self, fits: impl Fn(&Failure) -> bool) -> Vec<&'r Failure> {
        let all: Vec<&Failure> = self.report.failures.iter().filter(|one| fits(one)).collect();
        let lasting: Vec<&Failure> =
            all.iter().filter(|one| self.came_about(one).is_none()).copied().collect();
        if lasting.is_empty() { all } else { lasting }
    }

    /// The step in which a failed start or mount came about after all, or its workload was given up.
    pub(in super::super) fn came_about(&self, failure: &Failure) -> Option<&'r str> {
        let actor = Actor::workload(failure.workload.clone());
        let place = self.history.place(&failure.step);
        let failed_in = |step: &str| {
            self.report.failures.iter().any(|other| {
                other.workload == failure.workload && other.of == failure.of && other.step == step
            })
        };
        let later = self.report.captures.iter().filter(|capture| {
            let at = self.history.place(&capture.step);
            place != usize::MAX && at != usize::MAX && at > place && !failed_in(&capture.step)
        });
        let path = self.path_of(&actor);
        let mut later = later.filter(|capture| match (capture.table(&actor), failure.of) {
            (Some(_), FailureOf::Start) => true,
            (Some(table), FailureOf::Mount | FailureOf::Serve) => {
                table.at(&path).is_some_and(MountEntry::is_fuse)
            }
            (None, _) => false,
        });
        later.next().map(|capture| capture.step.as_str())
    }

    /// From when to when starts or mounts failed.
    pub(in super::super) fn when_failed(&self, failures: &[&Failure]) -> When {
        let place = |step: &&str| self.history.place(step);
        let from = failures.iter().map(|one| one.step.as_str()).min_by_key(place);
        let ends: Vec<Option<&str>> = failures.iter().map(|one| self.came_about(one)).collect();
        let lasts = ends.iter().any(Option::is_none);
        let until = ends.into_iter().flatten().max_by_key(place).filter(|_| !lasts);
        // A custom phase is not a step.
        let known = |step: &&str| self.history.place(step) != usize::MAX;
        When { from: from.filter(known).map(str::to_owned), until: until.map(str::to_owned) }
    }

    /// Producers that could not mount, and their words.
    pub(in super::super) fn mount_failures(&self) -> Vec<(&'r str, &'r str)> {
        self.failures_of(|failure| failure.of != FailureOf::Start)
    }

    fn failures_of(&self, of: impl Fn(&Failure) -> bool) -> Vec<(&'r str, &'r str)> {
        let mut found = Vec::new();
        for failure in self.report.failures.iter().filter(|failure| of(failure)) {
            let one = (failure.workload.as_str(), failure.words.as_str());
            if !found.contains(&one) {
                found.push(one);
            }
        }
        found
    }
}
