//! Whole scenarios on the model: what counts as met, as refused, and as cut short.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::fake::FakeBackend;
use crate::observation::{Observation, Via};
use crate::report::{CheckId, Report, Status};
use crate::{Event, Runner, scenario};

fn runner(text: &str) -> Runner {
    let plan = scenario::parse("s.yaml", text).expect("a scenario");
    Runner::new(plan).expect("a plan that can be run")
}

async fn run(text: &str) -> Report {
    runner(text).run(&FakeBackend::default()).await.expect("a report")
}

const ONE: &str = "workloads: [{name: p, role: producer}, {name: c, role: consumer}]\n";

#[tokio::test]
async fn what_has_no_mount_table_has_not_0_mounts() {
    for expected in ["layers: 0", "fuse_mounts: 0", "mounts_added: 0", "mounts_grown: 0"] {
        let report =
            run(&format!("{ONE}steps: [{{start: p, expect: {{c: {{{expected}}}}}}}]")).await;
        assert_eq!(report.expectations().unmet, 1, "{expected}");
    }
}

#[tokio::test]
async fn only_who_is_asked_looks_where_the_file_says_so() {
    for (looks, lookers) in [("all", 3), ("asked", 1)] {
        let steps = "steps: [{start: all, expect: {c: {outcome: ok}}}, {fault: kill}]";
        let report = run(&format!("looks: {looks}\n{ONE}{steps}")).await;
        let asked = |o: &&Observation| o.via == Via::Probe && o.step == "1-start";
        assert_eq!(report.timeline.iter().filter(asked).count(), lookers, "{looks}");
        let after = report.timeline.iter().filter(|o| o.via == Via::Probe && o.step == "2-fault");
        assert_eq!(after.count() > 0, looks == "all");
        // The mount tables are read all the same.
        assert_eq!(report.captures.len(), 2 + 1, "{looks}");
    }
}

#[tokio::test]
async fn a_start_that_fails_is_told_apart_from_what_a_look_gives() {
    let steps = |word: &str| {
        format!(
            "{ONE}steps: [{{start: p}}, {{fault: kill}}, {{restart: p, stale: fail, \
             expect: {{p: {word}}}}}]"
        )
    };
    for (word, met) in [("mount_error", true), ("ENOTCONN", true), ("ok", false), ("hang", false)] {
        let report = run(&steps(word)).await;
        let check = report.phases.iter().flat_map(|phase| &phase.checks);
        let check = check
            .into_iter()
            .find(|check| check.id == CheckId::Expect("p".into()))
            .expect("the check");
        assert_eq!(check.status == Status::Passed, met, "{word}: {}", check.observed);
        assert!(check.observed.starts_with("mount_error"), "{}", check.observed);
    }
}

/// What is wrong with a scenario, and what to do.
fn said(text: &str) -> String {
    let error = scenario::parse("s.yaml", text).map(drop).expect_err(text);
    format!("{error}; {}", error.fix().unwrap_or_default())
}

#[test]
fn what_cannot_be_expected_is_refused() {
    for (expect, words) in [
        ("c: {exit: 7}", "write it under run"),
        ("run: {layers: 2}", "name an actor"),
        ("c: ENOTCON", "did you mean ENOTCONN?"),
        ("c: enotconn", "did you mean ENOTCONN?"),
        ("c.program: SIGKIL", "did you mean SIGKILL?"),
        ("c: [ok, EFOO]", "unknown outcome \"EFOO\""),
    ] {
        let text = format!("{ONE}steps: [{{start: all, expect: {{{expect}}}}}]");
        let error = said(&text);
        assert!(error.contains(words), "{expect}: {error}");
    }
    for (step, words) in [
        ("{start: true}", "a list of names, or all"),
        ("{fault: {errors: EACCESS}}", "did you mean EACCES?"),
        ("{fault: oom, on: c}", "\"c\" is a consumer: it serves no filesystem"),
        ("{fault: {slow: 5}, on: [p, c]}", "\"c\" is a consumer"),
        ("{repair: hand_over}", "add `keeper: true`"),
        ("{observe: true, expect: {c.load: ok}}", "no readers and no writers"),
    ] {
        let text = format!("{ONE}steps: [{{start: all}}, {step}]");
        let error = said(&text);
        assert!(error.contains(words), "{step}: {error}");
    }
}

#[test]
fn a_supervised_producer_has_no_keeper() {
    // Where it is said: of all producers in the first line, of one in the second.
    for (fuse, own, at) in
        [("{keeper: true}", "", "s.yaml:1:"), ("{}", ", fuse: {keeper: true}", "s.yaml:2:")]
    {
        let error = said(&format!(
            "fuse: {fuse}\nworkloads: [{{name: p, role: producer, supervised: true{own}}}]\n\
             steps: [{{start: all}}]\n"
        ));
        assert!(error.contains(at) && error.contains("p is supervised"), "{error}");
    }
}

#[tokio::test]
async fn a_phase_says_once_that_a_container_was_refused() {
    // The volume's source is a dead mount.
    let report = run("workloads:\n\
         - {name: p, role: producer}\n\
         - {name: c, role: consumer, volume: mountpoint}\n\
         steps:\n\
         - phase: host_setup\n\
         - phase: producer\n\
         - fault: kill\n\
         - {phase: consumer, expect: {node: ENOTCONN}}\n\
         - repair: wait\n")
    .await;
    let checks: Vec<&CheckId> =
        report.phases.iter().flat_map(|phase| &phase.checks).map(|check| &check.id).collect();
    assert!(checks.contains(&&CheckId::Started("c".into())), "{checks:?}");
    assert!(!checks.contains(&&CheckId::DoneBy("c".into())), "{checks:?}");
}

#[tokio::test]
async fn a_run_cut_before_its_first_step_has_not_passed() {
    let cancellation = CancellationToken::new();
    let token = cancellation.clone();
    let runner = runner(&format!("{ONE}steps: [{{start: all}}]"))
        .with_cancellation(cancellation)
        .with_events(Arc::new(move |event| {
            if matches!(event, Event::NodeReady { .. }) {
                token.cancel();
            }
        }));
    let report = runner.run(&FakeBackend::default()).await.expect("a report");
    let phases: Vec<_> = report.phases.iter().map(|phase| (&*phase.id, phase.status)).collect();
    assert_eq!(phases, [("1-start", Status::Errored)]);
}

#[tokio::test]
async fn a_repair_that_fails_is_not_reported_as_done() {
    for (step, words) in [
        ("{repair: rebind_consumer}", Some("no mount lives on the node")),
        ("{repair: reconnect_consumer, on: d}", Some("d does not run")),
        ("{repair: remount}", None),
    ] {
        let text = format!(
            "workloads: [{{name: p, role: producer}}, {{name: c, role: consumer}}, \
             {{name: d, role: consumer}}]\n\
             steps: [{{start: [p, c]}}, {{fault: kill}}, {step}]"
        );
        let report = run(&text).await;
        let checks: Vec<_> = report.phases.iter().flat_map(|phase| &phase.checks).collect();
        let done = checks.iter().any(|check| check.id == CheckId::Repair);
        let failed = checks.iter().find(|check| check.id == CheckId::Done);
        assert_eq!(done, words.is_none(), "{step}: {checks:#?}");
        let said = failed.map(|check| check.observed.as_str());
        assert_eq!(said.is_some(), words.is_some(), "{step}: {said:?}");
        assert!(said.unwrap_or_default().contains(words.unwrap_or_default()), "{step}: {said:?}");
    }
}
