//! What went wrong in a run, and what the experiments say of it.

use propagation_core::diagnosis::{Cause as CauseData, FixKind};
use propagation_core::report as core;
use pyo3::prelude::*;

/// The fix of a cause.
#[pyclass(frozen, get_all, eq, module = "propagation")]
#[derive(Clone, PartialEq)]
pub(crate) struct Fix {
    /// What to do, and where.
    words: String,
    /// What `text` is: `command`, `yaml` or `none`.
    kind: &'static str,
    /// The command or the fragment of a manifest, ready to be copied; empty for `none`.
    text: String,
    /// The workload with the container to run the command in; None for the node.
    inside: Option<String>,
}

#[pymethods]
impl Fix {
    /// The command that does it; None if it is not a single command.
    #[getter]
    fn command(&self) -> Option<&str> {
        (self.kind == "command").then_some(self.text.as_str())
    }

    fn __repr__(&self) -> String {
        format!("<Fix {}>", self.words)
    }
}

/// One cause of what a run showed.
#[pyclass(frozen, get_all, eq, module = "propagation")]
#[derive(PartialEq)]
pub(crate) struct Cause {
    /// Its stable name, such as `volume-is-mountpoint`.
    id: String,
    /// What is wrong, in one line.
    title: String,
    /// Its certainty: `proven`, `likely` or `possible`.
    confidence: &'static str,
    /// The first phase or step after which an actor was wrong because of it.
    from_step: Option<String>,
    /// The phase or step after which every actor was right again; None when it lasts.
    until_step: Option<String>,
    /// The actors that it concerns.
    actors: Vec<String>,
    /// What shows it: lines of mountinfo, errnos, device numbers.
    evidence: Vec<String>,
    /// The smallest change that removes it.
    fix: Fix,
    /// A command that shows whether the fix has worked.
    verify: String,
    /// The documentation of the fact behind it.
    source: String,
}

impl From<&CauseData> for Cause {
    fn from(cause: &CauseData) -> Self {
        let kind = match cause.fix.kind {
            FixKind::Command => "command",
            FixKind::Yaml => "yaml",
            FixKind::None => "none",
        };
        let (words, text) = (cause.fix.words.clone(), cause.fix.text.clone());
        Self {
            id: cause.id.to_string(),
            title: cause.title.clone(),
            confidence: cause.confidence.as_str(),
            from_step: cause.from_step.clone(),
            until_step: cause.until_step.clone(),
            actors: cause.actors.iter().map(ToString::to_string).collect(),
            evidence: cause.evidence.clone(),
            fix: Fix { words, kind, text, inside: cause.fix.inside.clone() },
            verify: cause.verify.clone(),
            source: cause.source.clone(),
        }
    }
}

#[pymethods]
impl Cause {
    /// Whether every actor was right again at the end.
    #[getter]
    fn is_over(&self) -> bool {
        self.until_step.is_some()
    }

    fn __repr__(&self) -> String {
        format!("<Cause {} ({}): {}>", self.id, self.confidence, self.title)
    }
}

/// A single change, and its result.
#[pyclass(frozen, get_all, eq, module = "propagation")]
#[derive(Clone, PartialEq)]
pub(crate) struct Experiment {
    /// The change, as one word.
    what: String,
    /// The workloads that it touches; empty for the node.
    on: Vec<String>,
    /// The change as an order.
    words: String,
    /// A command, or a fragment of a manifest; empty if the words say everything.
    text: String,
    /// What it costs.
    cost: &'static str,
    /// Whether it is a change of the set-up, which stays; otherwise it is done once.
    for_good: bool,
    /// Whether it heals every actor; None when it was not tried.
    heals: Option<bool>,
    /// Actors that were wrong without it and are right with it.
    healed: Vec<String>,
    /// After how many milliseconds the last of them read again.
    after_ms: Option<f64>,
    /// Actors that were right without it and are wrong with it.
    worse: Vec<String>,
    /// What else is different.
    side_effects: Vec<String>,
    /// Whether adding what it removes to a set-up that works breaks that in the same way; None when that was not tried.
    breaks_again: Option<bool>,
    /// Its result, in words.
    outcome: String,
}

impl From<&core::Experiment> for Experiment {
    fn from(experiment: &core::Experiment) -> Self {
        let tried = experiment.tried();
        let names = |list: Option<&Vec<_>>| -> Vec<String> {
            list.into_iter()
                .flatten()
                .map(propagation_core::observation::Actor::to_string)
                .collect()
        };
        let what = serde_json::to_value(experiment.change.what).unwrap_or_default();
        let what = match &what {
            serde_json::Value::String(word) => word.clone(),
            other => other["repair"].as_str().unwrap_or_default().to_owned(),
        };
        Self {
            what,
            on: experiment.change.on.clone(),
            words: experiment.words.clone(),
            text: experiment.text.clone(),
            cost: experiment.cost.as_str(),
            for_good: experiment.for_good,
            heals: tried.map(|tried| tried.heals),
            healed: names(tried.map(|tried| &tried.healed)),
            after_ms: tried.and_then(|tried| tried.after).map(|after| after.ms),
            worse: names(tried.map(|tried| &tried.worse)),
            side_effects: tried
                .map(|tried| tried.side_effects.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            breaks_again: tried.and_then(|tried| tried.added).map(|added| added.breaks),
            outcome: experiment.outcome(),
        }
    }
}

#[pymethods]
impl Experiment {
    fn __repr__(&self) -> String {
        format!("<Experiment {}: {}>", self.words, self.outcome)
    }
}

/// The advice that follows from the experiments.
#[pyclass(frozen, get_all, eq, module = "propagation")]
#[derive(PartialEq)]
pub(crate) struct Advice {
    /// One change and what it does, in a sentence.
    head: String,
    /// Repairs that bring the mount back now, the cheapest first.
    now: Vec<Experiment>,
    /// Changes of the set-up with which it does not happen, the cheapest first.
    for_good: Vec<Experiment>,
    /// How many changes were tried.
    tried: u64,
    /// How many could not be tried.
    not_tried: u64,
    /// How long all experiments took, in milliseconds.
    took_ms: f64,
}

impl Advice {
    /// The advice of a report; none where there were no experiments.
    pub(super) fn of(report: &core::Report) -> Option<Self> {
        let advice = report.advice.as_ref()?;
        let all = |changes: &[core::Change]| {
            let found = changes.iter().filter_map(|change| report.experiment(change));
            found.map(Experiment::from).collect()
        };
        Some(Self {
            head: advice.head.clone(),
            now: all(&advice.now),
            for_good: all(&advice.for_good),
            tried: advice.tried,
            not_tried: advice.not_tried,
            took_ms: advice.took_ms,
        })
    }
}

#[pymethods]
impl Advice {
    fn __repr__(&self) -> String {
        format!("<Advice {}>", self.head)
    }
}
