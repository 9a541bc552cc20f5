//! The advice that follows from the experiments: the parts that every rendering shows.

use propagation_model::Report;
use propagation_model::cause::{Cause, CauseId};
use propagation_model::report::{Change, Experiment};

use super::words::duration;

/// The advice of a report, with what it is about.
#[derive(Debug, Clone)]
pub struct Advised<'r> {
    /// The first cause.
    pub cause: Option<&'r Cause>,
    /// One change and what it does, in a sentence.
    pub head: &'r str,
    /// Text to copy for that change; empty if the words say everything.
    pub text: &'r str,
    /// Other changes of the set-up that heal.
    pub for_good: Vec<&'r Experiment>,
    /// What brings the mount back now.
    pub now: Vec<&'r Experiment>,
    /// Experiments that do not heal every actor, or could not be tried.
    pub in_vain: Vec<&'r Experiment>,
    /// How many were tried, in how long.
    pub count: String,
}

impl<'r> Advised<'r> {
    /// The advice of a report; none where nothing was tried.
    pub fn of(report: &'r Report) -> Option<Self> {
        let advice = report.advice.as_ref()?;
        let all = |changes: &'r [Change]| -> Vec<&'r Experiment> {
            changes.iter().filter_map(|change| report.experiment(change)).collect()
        };
        let (mut for_good, mut now) = (all(&advice.for_good), all(&advice.now));
        let first = match (for_good.is_empty(), now.is_empty()) {
            (false, _) => Some(for_good.remove(0)),
            (true, false) => Some(now.remove(0)),
            (true, true) => None,
        };
        let in_vain = report.experiments.iter().filter(|one| !one.heals()).collect();
        let not_tried = match advice.not_tried {
            0 => String::new(),
            1 => "; 1 was not".to_owned(),
            count => format!("; {count} were not"),
        };
        let tried = match advice.tried {
            1 => "1 single change was".to_owned(),
            count => format!("{count} single changes were"),
        };
        Some(Self {
            cause: report.diagnosis.first().filter(|cause| cause.id != CauseId::NothingWrong),
            head: &advice.head,
            text: first.map_or("", |one| one.text.as_str()),
            for_good,
            now,
            in_vain,
            count: format!(
                "{tried} tried in {}, each on a simulated node of its own{not_tried}.",
                duration(advice.took_ms)
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use propagation_model::plan::Plan;
    use propagation_model::report::Advice;

    use super::*;

    #[test]
    fn one_change_is_counted_as_one() {
        let mut report = Report::new(Plan::default(), "run", "fake", "node");
        let mut count = |tried, not_tried| {
            report.advice = Some(Advice { tried, not_tried, ..Advice::default() });
            Advised::of(&report).map(|advised| advised.count).unwrap_or_default()
        };
        let (one, several) = (count(1, 1), count(2, 2));
        assert!(one.starts_with("1 single change was tried in "), "{one}");
        assert!(one.ends_with("; 1 was not."), "{one}");
        assert!(several.starts_with("2 single changes were tried in "), "{several}");
        assert!(several.ends_with("; 2 were not."), "{several}");
    }
}
