//! Rules on reports of real runs. What a simulated node cannot be made to do is written into such a
//! report: one observation, one line of mountinfo, one answer of a runtime.

mod denied;
mod ended;

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
    // nfs-ganesha keeps the dead filesystem open, so a new server alone does not heal.
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
