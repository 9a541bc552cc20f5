//! Daemons that answer, end or are killed, and device numbers that are given again.

use super::*;

/// A node that could read, and then got `errno` from the same device number; with the time of that look.
fn denied_after_reading(errno: Errno) -> (Report, u64) {
    let mut report = in_order();
    let last = report.timeline.iter_mut().rfind(|seen| is_node(seen)).expect("the node looked");
    last.outcome = Outcome::errno(errno, "read");
    let (mut before, at_us) = (last.clone(), last.at_us);
    (before.outcome, before.at_us) = (Outcome::Ok, at_us - 1);
    let index = report.timeline.iter().rposition(is_node).expect("the node looked");
    report.timeline.insert(index, before);
    (report, at_us)
}

#[test]
fn an_errno_that_a_reader_got_from_the_daemon_is_its_own() {
    for (errno, expected) in [
        (Errno::EACCES, CauseId::DaemonDenies),
        (Errno::EPERM, CauseId::DaemonDenies),
        (Errno::ESTALE, CauseId::DaemonAnswersErrors),
    ] {
        let (report, _) = denied_after_reading(errno);
        assert_eq!(ids(&report), [expected], "{errno}");
    }
}

/// Something that was done to `on`.
fn act(step: &str, at_us: u64, deed: Deed, on: &[&str]) -> Act {
    Act::new(step, at_us, deed, on.iter().map(|&name| name.to_owned()))
}

#[test]
fn a_device_number_that_is_given_again_is_another_mount() {
    let (mut report, at_us) = denied_after_reading(Errno::EACCES);
    report.acts.push(act("recovery", at_us, Deed::Restart { recreate: true }, &["producer"]));
    let actors = [Actor::Node, Actor::workload("producer"), Actor::workload("consumer-late")];
    for actor in actors {
        rewrite(&mut report, &actor, |line| Some(line.replace(",allow_other", "")));
    }
    assert_eq!(ids(&report), [CauseId::AllowOtherMissing]);
}

#[test]
fn only_a_repair_that_found_no_mount_came_too_early() {
    let of = |kind| Some(Refusal { kind, errno: None });
    for (repair, refusal, early) in [
        (Repair::RebindConsumer, None, true),
        (Repair::RebindHost, of(RefusalKind::DeadSource), true),
        (Repair::RebindConsumer, of(RefusalKind::Kernel), false),
        (Repair::ReconnectConsumer, None, false),
    ] {
        let mut report = up_to("stale_mount");
        let refused = Some("it was refused".to_owned());
        let mut done = act("stale_mount", u64::MAX, Deed::Repair { repair }, &["consumer-late"]);
        (done.refused, done.refusal) = (refused, refusal);
        report.acts.push(done);
        let found = ids(&report).contains(&CauseId::RecoveryBeforeMount);
        assert_eq!(found, early, "{repair} {refusal:?}");
    }
}

#[test]
fn a_write_to_a_mount_that_is_read_only_is_refused_by_the_kernel() {
    for (read_only, expected) in
        [(true, CauseId::MountReadOnly), (false, CauseId::DaemonAnswersErrors)]
    {
        let mut report = in_order();
        let last = report.timeline.iter().rfind(|seen| is_node(seen)).expect("the node looked");
        let mut write = last.clone();
        write.access = Access::Write;
        write.outcome = Outcome::errno(Errno::EROFS, "open");
        let step = write.step.clone();
        report.timeline.push(write);
        if read_only {
            rewrite(&mut report, &Actor::Node, |line| {
                let is_fuse = line.contains(" fuse.");
                Some(if is_fuse { line.replacen(" rw", " ro", 1) } else { line })
            });
        }
        let causes = explain(&report);
        assert_eq!(causes[0].id, expected);
        if read_only {
            assert!(causes[0].evidence[1].contains(" ro"), "{:?}", causes[0].evidence);
            // Where it was to be refused it may be what is wanted.
            let phase = report.phases.iter_mut().find(|phase| phase.id == step).expect("a phase");
            let check = CheckId::Expect("node.write".to_owned());
            phase.checks.push(Check::new(check, true, "EROFS", "EROFS"));
            assert_eq!(explain(&report)[0].confidence, super::Confidence::Possible);
        }
    }
}

#[test]
fn a_daemon_that_was_killed_is_not_stopped_whatever_is_started_later() {
    for (keeper, expected) in
        [(true, CauseId::DaemonKilledKeeperHolds), (false, CauseId::MountOutlivesDaemon)]
    {
        let mut plan = Plan::default();
        plan.fuse.keeper = keeper;
        let mut report = load(include_str!("../fixtures/stopped.json"), &plan);
        let hung = |seen: &&Observation| matches!(seen.outcome, Outcome::Hang { .. });
        let last_us = report.timeline.iter().rfind(hung).expect("somebody waited").at_us;
        let fault = report.acts.iter_mut().find(|act| matches!(act.deed, Deed::Fault { .. }));
        fault.expect("a fault").deed = Deed::Fault { fault: Fault::Kill };
        report.acts.retain(|act| act.from_us < last_us);
        let started = Deed::Restart { recreate: false };
        report.acts.push(act("stale_mount", last_us, started, &["producer"]));
        assert_eq!(explain(&report)[0].id, expected);
    }
}

#[test]
fn a_daemon_that_was_killed_for_its_memory_is_told_as_that() {
    let mut report = up_to("stale_mount");
    let fault = report.acts.iter_mut().find(|act| matches!(act.deed, Deed::Fault { .. }));
    fault.expect("a fault").deed = Deed::Fault { fault: Fault::Oom };
    assert_eq!(ids(&report), [CauseId::DaemonOutOfMemory]);
}
