//! The client, against an agent that gives prepared answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Clock, Connection, NodeClient, Programs, Reported, WorkloadClient, lock, read, wait};
use crate::error::{Error, ErrorKind};
use crate::node::{Probe, Target};
use crate::observation::{Access, Actor, Outcome};
use crate::plan::{Plan, StartOrder, Volume, WorkloadSpec};
use crate::program::{ProgramState, Refusal, RefusalKind};
use crate::protocol::{Call, Failure, Message, Place, ProgramEvent, Reply, Seen, encode};
use crate::workload::Until;
use crate::{Class, Errno, Signal};

/// Keeps what it was asked, and answers in order.
#[derive(Debug, Default)]
struct Prepared {
    asked: Mutex<Vec<Call>>,
    answers: Mutex<VecDeque<Reply>>,
}

#[async_trait]
impl Connection for Prepared {
    async fn call(&self, call: Call) -> Result<Result<Reply, Failure>, Error> {
        lock(&self.asked).push(call);
        let gone = || Error::new(ErrorKind::Disconnected, "talk", "it has gone");
        lock(&self.answers).pop_front().map(Ok).ok_or_else(gone)
    }

    fn other_version(&self, detail: &str) -> Error {
        other_version(detail)
    }
}

fn other_version(detail: &str) -> Error {
    Error::new(ErrorKind::AgentVersion, "understand", detail)
}

fn programs(containers_outlive_programs: bool) -> Programs {
    Programs::new(Clock::starting_at(Instant::now()), containers_outlive_programs)
}

fn client(answers: impl IntoIterator<Item = Reply>) -> NodeClient<Prepared> {
    let answers = Mutex::new(answers.into_iter().collect());
    let connection = Prepared { asked: Mutex::default(), answers };
    NodeClient { connection, plan: Plan::default(), programs: Arc::new(programs(true)) }
}

fn consumer(name: &str) -> WorkloadSpec {
    WorkloadSpec::consumer(name, StartOrder::AfterMount)
}

/// A workload that stands, and its reports.
fn standing(programs: &Programs, spec: &WorkloadSpec) -> (u32, watch::Receiver<Reported>) {
    let (container, events) = programs.add(spec);
    programs.stands(container);
    (container, events)
}

fn seen(outcome: Outcome) -> Seen {
    Seen { uid: 0, at_ns: 0, took_ns: 5_000, outcome, generation: None, mount: None }
}

fn ended() -> ProgramEvent {
    ProgramEvent::Ended { state: ProgramState::Exited { code: 0 } }
}

#[test]
fn the_shortest_round_trip_sets_the_clock() {
    let clock = Clock::starting_at(Instant::now() - Duration::from_secs(5));
    let asked = clock.elapsed_ns();
    // The agent's clock began two seconds before the run.
    clock.take(u64::try_from(asked).expect("it goes on") + 2_000_000_000, asked);
    let round_trip_us = u64::try_from((clock.elapsed_ns() - asked) / 1_000).expect("it goes on");
    let second = clock.micros(3_000_000_000);
    assert!((1_000_000..=1_000_000 + round_trip_us).contains(&second), "{second}");
    clock.take(0, 0);
    assert_eq!(clock.micros(3_000_000_000), second, "a reading that took the whole run");
    assert!(clock.micros(u64::MAX) <= clock.now_us(), "what has been told of has happened");
    assert_eq!(clock.micros(0), 0);
}

#[tokio::test]
async fn frames_come_one_by_one_until_the_stream_ends() {
    let message = Message::Hello { protocol: 1, agent: "1.2.3".into(), mapped_uids: 1 };
    let frame = encode(&message).expect("a frame");
    let bytes = [&[0; 4], frame.as_slice(), &frame[..9]].concat();
    let mut stream = bytes.as_slice();
    let got = read::<Message>(&mut stream, other_version).await;
    assert_eq!(got.expect("a message"), Some(message));
    let cut = read::<Message>(&mut stream, other_version).await;
    assert_eq!(cut.expect("an end"), None);
    let error = read::<Message>(&mut &b"\x02\0\0\0{}"[..], other_version).await;
    assert_eq!(error.expect_err("no message").kind(), ErrorKind::AgentVersion);
}

#[test]
fn a_failure_becomes_an_error_of_its_kind() {
    let refusal = Refusal { kind: RefusalKind::NoRoom, errno: Some(Errno::ENOSPC) };
    let failure = Failure {
        kind: ErrorKind::Environment,
        operation: "mount".into(),
        reason: "no room".into(),
        fix: Some("make room".into()),
        refusal: Some(refusal),
    };
    let error = Error::from(failure);
    assert_eq!((error.kind(), error.fix()), (ErrorKind::Environment, Some("make room")));
    assert_eq!(error.errno(), Some(Errno::ENOSPC));
}

#[test]
fn a_name_is_in_use_while_its_program_runs() {
    let programs = programs(true);
    let specs = [consumer("one")];
    assert!(programs.check_names(&[consumer("one"), consumer("one")]).is_err());
    let (container, _) = programs.add(&specs[0]);
    assert!(programs.check_names(&specs).is_ok(), "it does not stand yet");
    programs.stands(container);
    let error = programs.check_names(&specs).expect_err("it runs");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    programs.take(container, ended());
    assert!(programs.check_names(&specs).is_ok());
}

#[test]
fn an_actor_stands_or_is_gone_or_has_never_been() {
    for outlives in [true, false] {
        let programs = programs(outlives);
        let spec = consumer("one").with(|spec| spec.replicas = 2);
        let one = Actor::workload("one");
        assert!(programs.find(&one).is_err());
        let (container, events) = standing(&programs, &spec);
        let (place, from) = programs.place(&one).expect("it stands");
        assert_eq!((place, from.as_deref()), (Place::Container(container, 0), Some(&spec)));
        let third = Actor::Workload { name: "one".into(), replica: 2 };
        assert_eq!(programs.find(&third).expect_err("of two").kind(), ErrorKind::InvalidInput);
        programs.take(container, ended());
        assert_eq!(programs.find(&one).expect("known").is_some(), outlives);
        programs.forget(container);
        assert_eq!(programs.find(&one).expect("known"), None);
        assert!(programs.place(&one).is_err());
        assert_eq!(events.borrow().status.program, ProgramState::Exited { code: 0 });
    }
}

#[test]
fn what_programs_report_is_kept() {
    let programs = programs(true);
    let (container, events) = standing(&programs, &consumer("one"));
    programs.take(container, ProgramEvent::Mounted { at_ns: 0 });
    programs.take(container, ProgramEvent::Saw { seen: seen(Outcome::Ok) });
    programs.take(container, ProgramEvent::Held { seen: seen(Outcome::Absent) });
    programs.take(container, ProgramEvent::Log { line: "ready".into() });
    programs.take(container + 1, ProgramEvent::Log { line: "of nobody".into() });
    let reported = events.borrow().clone();
    assert_eq!(reported.status.mounted_at_us, Some(0));
    assert_eq!(reported.status.held, Some(Outcome::Absent));
    let reports = programs.take_reports();
    let held = Actor::HeldDescriptor { name: "one".into() };
    let told: Vec<_> = reports.iter().map(|one| (one.actor.clone(), one.access)).collect();
    assert_eq!(told, [(Actor::workload("one"), Access::Read), (held, Access::Held)]);
    assert_eq!(reported.status.seen.as_ref(), reports.first());
    assert!(programs.take_reports().is_empty());
    programs.take(container, ended());
    programs.update(container, Reported::begin_again);
    let Reported { status, log, .. } = events.borrow().clone();
    assert_eq!((status.seen, status.mounted_at_us), (None, None));
    assert_eq!(status.program, ProgramState::Exited { code: 0 });
    assert_eq!(log.to_vec(), ["ready"]);
}

#[tokio::test]
async fn answers_go_to_the_actors_that_have_the_path() {
    let answers = vec![seen(Outcome::Ok), seen(Outcome::Absent)];
    let client = client([Reply::Observed { seen: answers }, Reply::Observed { seen: Vec::new() }]);
    let without = consumer("without").with(|spec| spec.volume = Volume::Mountpoint);
    standing(&client.programs, &without);
    let actors = [Actor::Node, Actor::workload("without")];
    let mut probe = Probe {
        target: Target::Bridge,
        access: Access::Stat,
        expect: Vec::new(),
        uids: vec![0, 1000],
        deadline: Duration::from_secs(1),
        step: "look".into(),
    };
    let observed = client.observe(&actors, &probe).await.expect("answers");
    let classes: Vec<Class> = observed.iter().map(|one| one.outcome.class()).collect();
    assert_eq!(classes, [Class::Ok, Class::Absent, Class::Skipped, Class::Skipped]);
    assert!(observed.iter().all(|one| one.access == Access::Stat && one.step == "look"));
    assert!(observed.is_sorted_by_key(|one| one.at_us), "no answer is older than its question");
    probe.target = Target::Fuse;
    let error = client.observe(&actors, &probe).await.expect_err("too few answers");
    assert_eq!(error.kind(), ErrorKind::AgentVersion);
}

#[tokio::test]
async fn who_is_gone_has_no_mount_table() {
    let line = "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n";
    let mountinfo = vec![Some(line.to_owned()), None];
    let broken = Reply::Mounts { mountinfo: vec![Some("no mount".into())] };
    let client = client([Reply::Mounts { mountinfo }, broken]);
    let (stopped, _) = standing(&client.programs, &consumer("stopped"));
    client.programs.forget(stopped);
    standing(&client.programs, &consumer("ending"));
    let actors = [Actor::workload("stopped"), Actor::Node, Actor::workload("ending")];
    let tables = client.mount_tables(&actors).await.expect("answers");
    let there: Vec<bool> = tables.iter().map(Option::is_some).collect();
    assert_eq!(there, [false, true, false]);
    let error = client.mount_tables(&[Actor::Node]).await.expect_err("no mountinfo");
    assert_eq!(error.kind(), ErrorKind::Internal);
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_what_it_waits_for_and_with_the_program() {
    let programs = programs(true);
    let (container, events) = standing(&programs, &consumer("one"));
    let soon = Duration::from_secs(1);
    let wait = |until| wait(events.clone(), "one", until, soon);
    programs.take(container, ProgramEvent::Saw { seen: seen(Outcome::Absent) });
    let error = wait(Until::SeesGeneration(2)).await.expect_err("it sees nothing");
    let words = "wait for a look at generation 2 of one: not in 1000 ms; last seen absent; its \
                 program is running";
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Timeout, words));
    assert!(wait(Until::SeesBreakage).await.is_ok());
    programs.take(container, ProgramEvent::Failed { text: "busy".into() });
    let status = wait(Until::Mounted).await.expect("it will not mount");
    assert_eq!(status.failure.as_deref(), Some("busy"));
    programs.forget(container);
    let status = wait(Until::SeesGeneration(2)).await.expect("nothing more will come");
    assert_eq!(status.program, ProgramState::Signaled { signal: Signal::SIGKILL });
}

#[tokio::test(start_paused = true)]
async fn a_program_that_could_not_look_says_nothing_of_the_mount() {
    let programs = programs(true);
    let (container, events) = standing(&programs, &consumer("one"));
    programs.take(container, ProgramEvent::Failed { text: "no more processes (EAGAIN)".into() });
    programs.take(container, ProgramEvent::Ended { state: ProgramState::Exited { code: 1 } });
    let soon = Duration::from_secs(1);
    let waited = wait(events, "one", Until::SeesGeneration(2), soon).await;
    let error = waited.expect_err("it has seen nothing, and not because there was nothing");
    assert_eq!(error.kind(), ErrorKind::Environment);
    assert!(error.reason().contains("no more processes (EAGAIN)"), "{error}");
}

#[tokio::test]
async fn what_could_not_be_stopped_is_a_workload_still() {
    let node = Arc::new(client([Reply::Done]));
    let spec = consumer("one");
    let (container, events) = standing(&node.programs, &spec);
    let workload = WorkloadClient::new(Arc::clone(&node), spec, container, events);
    let fails = async |_| Err(Error::new(ErrorKind::Environment, "end it", "it is stuck"));
    assert!(workload.stop(fails).await.is_err());
    assert_eq!(workload.container().expect("it stands"), container);
    let remove = async |container| node.call(Call::Remove { container }).await.map(drop);
    workload.stop(remove).await.expect("it ends");
    assert!(workload.container().is_err());
    workload.stop(remove).await.expect("it has been stopped");
    assert_eq!(*lock(&node.connection.asked), [Call::Remove { container }]);
    let (next, events) = standing(&node.programs, &workload.spec);
    workload.goes_on_as(next, events);
    // The node has gone, and the container with it.
    workload.stop(remove).await.expect("there is nothing left");
    assert!(workload.container().is_err());
}
