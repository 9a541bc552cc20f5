//! Rules on reports of real runs. What a simulated node cannot be made to do is written into such a
//! report: one observation, one line of mountinfo, one answer of a runtime.

use proptest::prelude::*;

use super::*;
use crate::comparison::Transport;
use crate::confinement::{Confinement, DomainDenied, FuseNeed};
use crate::errno::Errno;
use crate::mountinfo::{MountEntry, MountRef, MountTable};
use crate::observation::{Access, Actor, Observation, Outcome, Via};
use crate::plan::{Fault, HostPathType, Plan, Propagation, Repair, Volume};
use crate::program::{Refusal, RefusalKind, StartRefused};
use crate::report::{Act, ActorTable, Check, CheckId, Deed, Failure, FailureOf, Status};

const FUSE_POINT: &str = "/tmp/fuse-test-bridge/dfs";

fn load(json: &str, plan: &Plan) -> Report {
    let mut value: serde_json::Value = serde_json::from_str(json).expect("a fixture is JSON");
    value["plan"] = serde_json::to_value(plan).expect("a plan is JSON");
    serde_json::from_value(value).expect("a fixture is a report")
}

/// The report of a run whose daemon was stopped.
pub(crate) fn stopped() -> Report {
    load(include_str!("fixtures/stopped.json"), &Plan::default())
}

fn in_order() -> Report {
    load(include_str!("fixtures/in-order.json"), &Plan::default())
}

/// The report as it would be had the run ended after the phase `last`.
fn up_to(last: &str) -> Report {
    let mut report = in_order();
    let phases = report.phases.iter().position(|phase| phase.id == last).expect("a phase") + 1;
    report.phases.truncate(phases);
    let kept: Vec<String> = report.phases.iter().map(|phase| phase.id.clone()).collect();
    report.timeline.retain(|seen| kept.contains(&seen.step));
    report.captures.retain(|capture| kept.contains(&capture.step));
    report
}

fn ids(report: &Report) -> Vec<CauseId> {
    explain(report).into_iter().map(|cause| cause.id).collect()
}

/// Changes what was seen by probes.
fn see(report: &mut Report, change: impl Fn(&mut Observation)) {
    for seen in report.timeline.iter_mut().filter(|seen| seen.via == Via::Probe) {
        change(seen);
    }
}

fn fail(report: &mut Report, phase: &str, check: &str, observed: &str) {
    let check = CheckId::from(check);
    let phase = report.phases.iter_mut().find(|one| one.id == phase).expect("the phase");
    phase.checks.retain(|one| one.id != check);
    phase.checks.push(
        Check::new(check.clone(), false, "something else", observed)
            .with_evidence(["what was seen".to_owned()]),
    );
    phase.status = Status::Failed;
    let (of, workload) = match &check {
        CheckId::Started(name) => (FailureOf::Start, name.clone()),
        CheckId::NewConsumerStarts => (FailureOf::Start, "consumer-during-fault".to_owned()),
        CheckId::ProducerRestarts => (FailureOf::Start, "producer".to_owned()),
        CheckId::Mounted => (FailureOf::Mount, "producer".to_owned()),
        _ => return,
    };
    report.failures.push(failure(workload, of, observed));
}

fn failure(workload: String, of: FailureOf, words: &str) -> Failure {
    let refused = StartRefused::said(words);
    let refusal = (of == FailureOf::Start).then_some(refused.kind);
    Failure { workload, step: "1-start".to_owned(), of, words: words.into(), refusal }
}

/// Changes the lines of an actor's mount tables; the change gives back the line or nothing.
fn rewrite(report: &mut Report, actor: &Actor, change: impl Fn(String) -> Option<String>) {
    for capture in &mut report.captures {
        for one in capture.tables.iter_mut().filter(|one| one.actor == *actor) {
            let lines = one.table.iter().filter_map(|mount| change(mount.to_string()));
            one.table = lines.map(|line| line.parse::<MountEntry>().expect("a line")).collect();
        }
    }
}

fn add_runtime(report: &mut Report, lines: &str) {
    let table = MountTable::parse(lines.as_bytes()).expect("mountinfo");
    for capture in &mut report.captures {
        capture.tables.push(ActorTable::new(Actor::Runtime, table.clone()));
    }
}

fn is_node(seen: &Observation) -> bool {
    seen.actor == Actor::Node
}

fn is(seen: &Observation, name: &str) -> bool {
    seen.actor == Actor::workload(name)
}

#[test]
fn real_runs_are_explained() {
    let mut private = Plan::default();
    let mut mountpoint = Plan::default();
    for consumer in 1..=2 {
        private.workloads[consumer].propagation = Propagation::None;
        mountpoint.workloads[consumer].volume = Volume::Mountpoint;
    }
    let of_mountpoint = [
        CauseId::VolumeIsMountpoint,
        CauseId::StaleSourceBlocksStart,
        CauseId::CleanUnmountWhereStackNeeded,
    ];
    for (json, plan, expected) in [
        (include_str!("fixtures/in-order.json"), Plan::default(), &[CauseId::NothingWrong][..]),
        (include_str!("fixtures/mountpoint.json"), mountpoint, &of_mountpoint[..]),
        (include_str!("fixtures/stopped.json"), Plan::default(), &[CauseId::DaemonStopped][..]),
        (include_str!("fixtures/private-early.json"), private, &[CauseId::ConsumerModeNone][..]),
        (
            include_str!("fixtures/no-allow-other.json"),
            Plan::default(),
            &[CauseId::AllowOtherMissing][..],
        ),
    ] {
        assert_eq!(ids(&load(json, &plan)), expected);
    }
}

#[test]
fn device_numbers_prove_that_the_volume_is_the_mountpoint() {
    let mut plan = Plan::default();
    plan.workloads[1].volume = Volume::Mountpoint;
    plan.workloads[2].volume = Volume::Mountpoint;
    let causes = explain(&load(include_str!("fixtures/mountpoint.json"), &plan));
    let evidence = causes[0].evidence.join("\n");
    let devices = "is what consumer-late holds, device 0:87 is what the node has mounted now";
    assert!(evidence.contains(devices), "{evidence}");
    assert_eq!(causes[0].actors, [Actor::workload("consumer-late")]);
    assert!(causes[0].fix.text.contains("path: /tmp/fuse-test-bridge\n"), "{:?}", causes[0].fix);
}

#[test]
fn a_hang_before_anything_was_served_is_another_one() {
    let mut report = up_to("producer");
    see(&mut report, |seen| {
        if seen.mount.is_some() {
            seen.outcome = Outcome::Hang { after_ms: 2000 };
        }
    });
    fail(&mut report, "producer", "mounted", "not in 30000 ms");
    assert_eq!(ids(&report), [CauseId::NotYetServed]);
}

#[test]
fn a_daemon_that_answers_others_with_errors_is_slow_and_not_stopped() {
    let mut report = up_to("consumer");
    see(&mut report, |seen| {
        if seen.step == "consumer" && seen.mount.is_some() {
            seen.outcome = match is(seen, "consumer-early") {
                true => Outcome::Hang { after_ms: 2000 },
                false => Outcome::errno(Errno::EIO, "read"),
            };
        }
    });
    fail(&mut report, "consumer", "finds_marker:consumer-early", "hang");
    let found = ids(&report);
    assert!(found.contains(&CauseId::DaemonSlow), "{found:?}");
    assert!(!found.contains(&CauseId::DaemonStopped), "{found:?}");
}

#[test]
fn a_control_that_sees_the_mount_comes_first() {
    let mut report = up_to("consumer");
    see(&mut report, |seen| {
        if is(seen, "control") {
            seen.outcome = Outcome::Ok;
        }
    });
    fail(&mut report, "consumer", "control:control", "control: ok");
    let causes = explain(&report);
    assert_eq!(causes[0].id, CauseId::ControlPositive);
    assert_eq!(causes[0].actors, [Actor::workload("control")]);
}

#[test]
fn the_errno_tells_a_security_module_from_a_capability() {
    for (said, expected) in [
        ("fusermount3: mount failed: Permission denied", CauseId::LsmDenies),
        ("mount(2) of fuse.x on /mnt/dfs: Permission denied (EACCES)", CauseId::LsmDenies),
        (
            "mount(2) of fuse.x on /mnt/dfs: Operation not permitted (EPERM)",
            CauseId::CapabilityMissing,
        ),
        ("run fusermount3: No such file or directory (ENOENT)", CauseId::Fusermount3Absent),
        (
            "fusermount3: option allow_other only allowed if 'user_allow_other' is set in \
             /etc/fuse.conf",
            CauseId::UserAllowOtherMissing,
        ),
    ] {
        let mut report = up_to("producer");
        report.timeline.clear();
        fail(&mut report, "producer", "mounted", said);
        assert_eq!(ids(&report), [expected], "{said}");
    }
}

#[test]
fn the_errno_tells_a_dead_source_from_a_denied_one() {
    for (errno, expected) in [
        ("transport endpoint is not connected", CauseId::StaleSourceBlocksStart),
        ("permission denied", CauseId::LsmDenies),
        ("operation not permitted", CauseId::CapabilityMissing),
    ] {
        let mut report = in_order();
        let said = format!("failed to stat {FUSE_POINT:?}: stat {FUSE_POINT}: {errno}");
        fail(&mut report, "stale_mount", "new_consumer_starts", &said);
        assert_eq!(ids(&report), [expected], "{errno}");
    }
}

#[test]
fn a_dead_source_explains_why_the_producer_does_not_come_back() {
    let mut report = up_to("stale_mount");
    let said = format!("failed to stat {FUSE_POINT:?}: transport endpoint is not connected");
    fail(&mut report, "stale_mount", "producer_restarts", &said);
    assert_eq!(ids(&report), [CauseId::StaleSourceBlocksStart]);
    assert_eq!(ids(&up_to("stale_mount")), [CauseId::DaemonDead]);
}

#[test]
fn access_that_is_denied_in_spite_of_allow_other_is_somebody_elses_doing() {
    let mut report = in_order();
    see(&mut report, |seen| {
        if seen.uid == 1000 && !is_node(seen) {
            seen.outcome = Outcome::errno(Errno::EACCES, "open");
        }
    });
    assert_eq!(ids(&report), [CauseId::LsmDenies]);
}

/// A run in order with these answers of SELinux's policy for a domain.
fn under_selinux(what: &[FuseNeed], own: bool) -> Report {
    let mut report = in_order();
    let (domain, boolean) = ("app_t".to_owned(), Some("app_use_fusefs".to_owned()));
    let denied = DomainDenied { domain, own, what: what.to_vec(), boolean };
    let facts = report.environment.as_mut().expect("facts of the node");
    facts.confinement = vec![Confinement::SelinuxEnforcing, Confinement::SelinuxDenies(denied)];
    report
}

#[test]
fn a_denial_that_is_the_policys_names_selinux_and_its_boolean() {
    let consumers_denied = |own: bool| {
        let mut report = under_selinux(&[FuseNeed::Files], own);
        see(&mut report, |seen| seen.outcome = Outcome::errno(Errno::EACCES, "open"));
        report
    };
    let causes = explain(&consumers_denied(true));
    assert_eq!(causes[0].id, CauseId::LsmDenies, "the node is in the same domain");
    assert!(causes[0].title.contains("domain app_t use files"), "{}", causes[0].title);
    assert_eq!(causes[0].fix.text, "setsebool -P app_use_fusefs on");
    // Programs of a simulated node are in this program's domain, whatever that of containers may.
    assert_eq!(ids(&consumers_denied(false)), [CauseId::DaemonDenies]);
    let mut cluster = consumers_denied(false);
    cluster.backend = "k8s".to_owned();
    cluster.timeline.retain(|seen| !is_node(seen));
    let causes = explain(&cluster);
    assert_eq!(
        (&causes[0].id, causes[0].fix.text.as_str()),
        (&CauseId::LsmDenies, "setsebool -P app_use_fusefs on")
    );
}

#[test]
fn a_producer_is_told_what_its_domain_may_not() {
    let said = |what, words: &str| {
        let mut report = under_selinux(&[what], true);
        report.timeline.clear();
        report.phases.truncate(2);
        fail(&mut report, "producer", "mounted", words);
        explain(&report).remove(0)
    };
    let mount = said(FuseNeed::Mount, "mount(2) of fuse.x on /mnt/dfs: Permission denied (EACCES)");
    assert!(mount.title.contains("does not let the domain app_t mount"), "{}", mount.title);
    assert!(mount.fix.text.starts_with("runcon"), "{}", mount.fix.text);
    let device = said(FuseNeed::Device, "open /dev/fuse: Permission denied (EACCES)");
    assert!(
        device.title.contains("SELinux denies /dev/fuse to the domain app_t"),
        "{}",
        device.title
    );
}

/// The producer has its mount, the node has not.
fn not_sent(volume_tags: &str) -> Report {
    let mut report = up_to("producer");
    see(&mut report, |seen| {
        if is_node(seen) && seen.mount.is_some() {
            seen.outcome = Outcome::Absent;
            seen.mount = None;
        }
    });
    fail(&mut report, "producer", "propagation", "node: absent");
    rewrite(&mut report, &Actor::Node, |line| (!line.contains("fuse.")).then_some(line));
    rewrite(&mut report, &Actor::workload("producer"), |line| {
        Some(line.replace(" shared:134 ", volume_tags))
    });
    report
}

#[test]
fn a_producers_mount_stops_where_its_namespace_only_receives() {
    let mut report = not_sent(" shared:50 master:134 ");
    assert_eq!(ids(&report), [CauseId::UserNamespaceBoundary]);
    add_runtime(
        &mut report,
        "500 499 0:82 / / rw shared:49 master:1 - tmpfs tmpfs rw\n\
         501 500 0:84 / /tmp rw shared:50 master:134 - tmpfs tmpfs rw\n",
    );
    assert_eq!(ids(&report), [CauseId::RuntimeOwnNamespace]);
}

#[test]
fn a_producers_volume_that_is_private_sends_nothing() {
    let causes = explain(&not_sent(" "));
    assert_eq!(causes[0].id, CauseId::ProducerNotShared);
    assert!(causes[0].fix.text.contains("Bidirectional"));
}

#[test]
fn a_runtime_that_does_not_apply_the_mode_is_named() {
    // The volume is private, and the plan asks for HostToContainer.
    let report = load(include_str!("fixtures/private-early.json"), &Plan::default());
    assert_eq!(ids(&report), [CauseId::PropagationNotApplied]);
}

#[test]
fn a_volume_of_another_peer_group_is_not_connected() {
    let mut report = load(include_str!("fixtures/private-early.json"), &Plan::default());
    rewrite(&mut report, &Actor::workload("consumer-early"), |line| {
        Some(if line.contains(" /mnt ") {
            line.replace(" - tmpfs", " master:99 - tmpfs")
        } else {
            line
        })
    });
    assert_eq!(ids(&report), [CauseId::ConsumerNotConnected]);
    add_runtime(&mut report, "501 500 0:84 / /tmp rw shared:99 - tmpfs tmpfs rw\n");
    assert_eq!(ids(&report), [CauseId::RuntimeOwnNamespace]);
}

#[test]
fn a_run_in_order_says_what_was_seen() {
    let causes = explain(&in_order());
    assert_eq!(causes[0].id, CauseId::NothingWrong);
    assert!(causes[0].title.contains("reads the fresh one"), "{}", causes[0].title);
}

#[test]
fn layers_are_counted() {
    let mut report = in_order();
    let last = report.captures.last_mut().expect("captures");
    let node = last.tables.iter_mut().find(|one| one.actor == Actor::Node).expect("the node");
    let live = node.table.at(&FUSE_POINT.into()).expect("a mount").clone();
    let mut above = live.clone();
    (above.mount_id, above.parent_id, above.device.minor) = (900, live.mount_id, 99);
    node.table = node.table.iter().cloned().chain([above]).collect();
    let causes = explain(&report);
    assert_eq!(causes[0].id, CauseId::StackedLayers);
    assert!(causes[0].title.starts_with("2 FUSE mounts"), "{}", causes[0].title);
}

#[test]
fn a_deleted_directory_under_a_volume_is_seen() {
    let mut report = in_order();
    rewrite(&mut report, &Actor::workload("consumer-late"), |line| {
        let dead = line.replace("/fuse-test-bridge /mnt", "/fuse-test-bridge//deleted /mnt");
        (!line.contains("fuse.")).then_some(dead)
    });
    assert_eq!(ids(&report), [CauseId::SubPathOnDeadDentry]);
}

#[test]
fn an_error_of_the_daemon_is_not_its_death() {
    let mut report = in_order();
    let last = report.timeline.iter_mut().rfind(|seen| is_node(seen)).expect("the node looked");
    last.outcome = Outcome::errno(Errno::EIO, "read");
    let found = ids(&report);
    assert_eq!(found, [CauseId::DaemonAnswersErrors]);
}

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
        let mut report = load(include_str!("fixtures/stopped.json"), &plan);
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

#[test]
fn a_device_that_a_container_has_not_is_no_missing_capability() {
    for said in [
        "open /dev/fuse: No such file or directory (ENOENT)",
        "fuse: failed to open /dev/fuse: Operation not permitted",
    ] {
        let mut report = up_to("producer");
        report.timeline.clear();
        fail(&mut report, "producer", "mounted", said);
        assert_eq!(ids(&report), [CauseId::FuseDeviceUnusable], "{said}");
    }
}

#[test]
fn a_source_of_another_type_is_told_by_whoever_looked() {
    for (kind, said, with_errno) in [
        (
            Some(HostPathType::File),
            "MountVolume.SetUp failed: hostPath type check failed: /x is not a file, it's a Directory",
            false,
        ),
        (None, "error mounting \"/x\" to rootfs: not a directory", true),
    ] {
        let mut report = in_order();
        for spec in &mut report.plan.workloads {
            spec.bind.kind = kind;
        }
        fail(&mut report, "stale_mount", "new_consumer_starts", said);
        let causes = explain(&report);
        assert_eq!(causes[0].id, CauseId::SourceTypeMismatch, "{said}");
        assert_eq!(causes[0].title.contains("ENOTDIR"), with_errno, "{}", causes[0].title);
    }
}

#[test]
fn a_cause_is_told_again_only_of_others() {
    let cause = |actors: &[&str]| Cause {
        actors: actors.iter().map(|&name| Actor::workload(name)).collect(),
        ..explain(&stopped()).remove(0)
    };
    let of_mount = |name, id| Cause { mounts: vec![MountRef::new(name, id)], ..cause(&[name]) };
    let (a, b) = (of_mount("a", 1), of_mount("b", 2));
    let mut causes =
        vec![a.clone(), cause(&["a", "c"]), b.clone(), Cause { mounts: Vec::new(), ..cause(&[]) }];
    let report = stopped();
    tell_once(&Scene::new(&report), &mut causes);
    assert_eq!(causes, [a, b]);
}

#[test]
fn a_refusal_that_only_the_report_lists_has_its_cause_too() {
    for (of, words, expected) in [
        (
            FailureOf::Start,
            "stat /x: transport endpoint is not connected",
            CauseId::StaleSourceBlocksStart,
        ),
        (
            FailureOf::Mount,
            "run fusermount3: No such file or directory (ENOENT)",
            CauseId::Fusermount3Absent,
        ),
    ] {
        let mut report = in_order();
        report.failures = vec![failure("producer".to_owned(), of, words)];
        assert_eq!(ids(&report), [expected]);
    }
}

#[test]
fn silent_failures_are_named() {
    let wrong = || Outcome::WrongContent { detail: "90 bytes that are not a marker".into() };
    for (on_fuse, expected) in
        [(true, CauseId::MountedButWrongContent), (false, CauseId::LowerFilesystemWritten)]
    {
        let mut report = up_to("consumer");
        see(&mut report, |seen| {
            if is(seen, "consumer-late") && seen.uid == 0 {
                seen.outcome = wrong();
                if !on_fuse {
                    seen.mount = None;
                }
            }
        });
        fail(&mut report, "consumer", "reads:consumer-late", "wrong_content");
        assert!(ids(&report).contains(&expected), "{:?}", ids(&report));
    }
}

#[test]
fn checks_that_speak_for_themselves_are_explained() {
    for (check, expected) in [
        ("breakage_seen", CauseId::MountOutlivesDaemon),
        ("consumers_alive", CauseId::ConsumerDied),
        ("noticed", CauseId::ConsumerDidNotNotice),
        ("something_new", CauseId::Unexplained),
    ] {
        let mut report = in_order();
        fail(&mut report, "stale_mount", check, "not as expected");
        assert_eq!(ids(&report), [expected]);
    }
}

#[test]
fn no_consumer_gets_the_root_of_the_node() {
    for (path, has_manifest) in [("/second", false), ("/srv/second", true)] {
        let mut report = in_order();
        fail(&mut report, "stale_mount", "noticed", "not as expected");
        report.plan.workloads[0].volume = Volume::Path(path.to_owned());
        let causes = explain(&report);
        let cause = causes.iter().find(|one| one.id == CauseId::ConsumerDidNotNotice);
        let fix = &cause.expect("the cause").fix;
        assert_eq!(fix.text.contains("path: \"/srv\""), has_manifest, "{fix:?}");
        assert_eq!(fix.kind == FixKind::Yaml, has_manifest, "{fix:?}");
    }
}

#[test]
fn a_run_that_was_cut_short_has_no_cause() {
    let mut report = up_to("consumer");
    report.phases[2].status = Status::Errored;
    assert_eq!(ids(&report), Vec::<CauseId>::new());
}

#[test]
fn causes_keep_their_shape_in_json() {
    for cause in explain(&load(include_str!("fixtures/stopped.json"), &Plan::default())) {
        let json = serde_json::to_value(&cause).expect("JSON");
        assert_eq!(json["confidence"], "likely");
        assert_eq!(json["fix"]["kind"], "command");
        assert_eq!(serde_json::from_value::<Cause>(json).expect("a cause"), cause);
    }
}

proptest! {
    /// Whatever is missing from a report, it is explained, and nothing is made up about consumers
    /// that saw all they should.
    #[test]
    fn parts_of_reports_are_explained(
        seen in proptest::collection::vec(any::<bool>(), 40),
        captured in proptest::collection::vec(any::<bool>(), 5),
    ) {
        let mut report = in_order();
        let mut keep = seen.into_iter().cycle();
        report.timeline.retain(|_| keep.next().unwrap_or(true));
        let mut keep = captured.into_iter().cycle();
        report.captures.retain(|_| keep.next().unwrap_or(true));
        for id in ids(&report) {
            prop_assert!([CauseId::NothingWrong, CauseId::DaemonDead].contains(&id), "{id}");
        }
    }
}

#[test]
fn a_server_that_is_away_has_no_cause_of_fuse() {
    let mut report = stopped();
    assert!(!ids(&report).contains(&CauseId::ServerAway));
    report.plan.fuse.transport = Some(Transport::SmbRclone);
    assert_eq!(ids(&report), [CauseId::ServerAway]);
    let cause = explain(&report).remove(0);
    assert!(cause.title.contains("smb-rclone") && cause.fix.text.is_empty(), "{cause:?}");
    assert!(cause.actors.contains(&Actor::Node) && !cause.evidence.is_empty(), "{cause:?}");
    // A server that has the dead filesystem open is no help.
    let mut lost = report.clone();
    lost.plan.fuse.transport = Some(Transport::FuseNfs);
    for seen in lost.timeline.iter_mut().filter(|seen| seen.step == "recovery") {
        seen.outcome = Outcome::errno(Errno::EIO, "open");
    }
    let cause = explain(&lost).remove(0);
    assert!(cause.title.starts_with("the FUSE daemon below nfs-ganesha serves again"), "{cause:?}");
    assert!(cause.fix.words.starts_with("start nfs-ganesha again too"), "{cause:?}");
    // A client that has died is as stale as any FUSE mount.
    for seen in &mut report.timeline {
        if matches!(seen.outcome, Outcome::Hang { .. }) {
            seen.outcome = Outcome::errno(Errno::ENOTCONN, "open");
        }
    }
    assert!(!ids(&report).contains(&CauseId::ServerAway));
    // Nobody holds a connection where a client answers from its cache.
    let mut cached = in_order();
    cached.plan.fuse.transport = Some(Transport::SmbCifs);
    fail(&mut cached, "stale_mount", "breakage_seen", "node: ok");
    assert!(ids(&cached).contains(&CauseId::ServerAway));
    assert!(!ids(&cached).contains(&CauseId::MountOutlivesDaemon));
    // The kernel's client says it itself.
    report.plan.fuse.transport = Some(Transport::SmbCifs);
    assert_eq!(ids(&report).first(), Some(&CauseId::ServerAway));
}
