//! A suite in environments that are absent, poor or broken.

use std::time::Duration;

use async_trait::async_trait;
use propagation_core::fake::FakeBackend;
use propagation_core::{Backend, Capabilities, Error, Feature, Node, Plan, Run};

use crate::require::Required;
use crate::{CaseOutcome, Need, Skip, Suite};

fn requiring(mut suite: Suite, names: &str) -> Suite {
    suite.required = Required::parse(names);
    suite
}

fn skipped(skip: Skip) -> CaseOutcome {
    CaseOutcome::Skipped(skip)
}

#[test]
fn an_absent_environment_skips_every_case_and_says_why() {
    let suite = Suite::new(FakeBackend::default().with_absence("it is switched off"));
    let outcomes = suite.outcomes();
    assert!(!outcomes.is_empty());
    for (case, outcome) in outcomes {
        let CaseOutcome::Skipped(Skip::Absent { reason }) = outcome else {
            panic!("{case}: {outcome:?}");
        };
        assert!(reason.contains("it is switched off"), "{reason}");
    }
}

#[test]
fn what_is_required_may_not_be_absent() {
    let absent = || skipped(Skip::Absent { reason: "no kernel".into() });
    let suite = || Suite::new(FakeBackend::default());
    assert!(requiring(suite(), "").told(absent()).is_ok());
    assert!(requiring(suite(), "local").told(absent()).is_ok());
    for names in ["fake", "all", "local,fake"] {
        let told = requiring(suite(), names).told(absent());
        let words = told.err().and_then(|failed| failed.message().map(ToOwned::to_owned));
        assert!(words.is_some_and(|words| words.contains("no kernel")), "{names}");
    }
}

#[test]
fn what_is_required_lacks_only_what_was_declared() {
    let lacks = || skipped(Skip::Lacks(Need::OTHER_UIDS));
    let suite = requiring(Suite::new(FakeBackend::default()), "fake");
    assert!(suite.told(lacks()).is_err());
    assert!(suite.clone().accepting_without([Need::STOP_FAULT]).told(lacks()).is_err());
    assert!(suite.clone().accepting_without([Need::OTHER_UIDS]).told(lacks()).is_ok());
    let nothing = skipped(Skip::NotApplicable { reason: "nothing to refuse".into() });
    assert!(suite.told(nothing).is_ok());
}

#[test]
fn cases_are_selected_by_what_nodes_declare() {
    let less = FakeBackend::modelled().without(&[Feature::Replicas]);
    let outcomes = Suite::new(FakeBackend::default().with_capabilities(less)).outcomes();
    let lacking: Vec<&str> = outcomes
        .iter()
        .filter(|(_, outcome)| *outcome == skipped(Skip::Lacks(Need::REPLICAS)))
        .map(|(case, _)| case.as_str())
        .collect();
    assert_eq!(lacking, ["propagation::replicas_are_views_of_their_own"]);
}

/// A backend with nodes that never come up.
struct Endless;

#[async_trait]
impl Backend for Endless {
    fn name(&self) -> &str {
        "endless"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }

    fn missing(&self, _plan: &Plan) -> Option<String> {
        None
    }

    async fn open(&self, _plan: &Plan, _run: &Run) -> Result<Box<dyn Node>, Error> {
        std::future::pending().await
    }
}

#[test]
fn a_backend_that_does_not_open_is_broken_and_not_absent() {
    let suite = Suite::new(Endless).with_case_deadline(Duration::from_millis(20));
    for (case, outcome) in suite.outcomes() {
        assert!(matches!(outcome, CaseOutcome::Failed(_)), "{case}: {outcome:?}");
    }
}
