//! The mount graph against the kernel: trees of mounts made at random in several mount namespaces,
//! then one more mount. Who sees it, predicted from the tables before, must be who sees it.
//!
//! Everything happens in mount namespaces of the test's own; it has one thread, because namespaces
//! belong to threads.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr)] // a test program

#[path = "visibility/operation.rs"]
mod operation;
#[path = "visibility/world.rs"]
mod world;

use std::cell::Cell;
use std::collections::BTreeSet;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use propagation_conformance::skip;
use propagation_core::diagnosis::visibility;
use propagation_core::mountinfo::{MountGraph, MountPath, MountRef, MountTable};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use operation::{Experiment, experiment};
use world::{Machine, World};

/// How many experiments, unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 1000;

fn main() -> std::process::ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word] = words.as_slice()
        && word == world::INSIDE
    {
        return world::inside();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trial = Trial::ignorable_test("the_graph_predicts_the_kernel", predicts);
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

fn predicts() -> Result<Completion, Failed> {
    let machine = match Machine::enter() {
        Ok(machine) => machine,
        Err(reason) => return skip("root", &reason),
    };
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    // What the experiments were like: a test in which nothing ever travels would prove nothing.
    let tried = Cell::new(0_u32);
    let (made, travelled, hidden) = (Cell::new(0_u32), Cell::new(0_u32), Cell::new(0_u32));
    let mut runner = TestRunner::new(config);
    runner.run(&experiment(), |experiment| {
        tried.set(tried.get() + 1);
        let Some(found) = carry_out(&machine, &experiment)? else { return Ok(()) };
        made.set(made.get() + 1);
        travelled.set(travelled.get() + u32::from(found.copies > 0));
        hidden.set(hidden.get() + u32::from(found.hidden > 0));
        Ok(())
    })?;
    let (tried, made) = (tried.get(), made.get());
    let (travelled, hidden) = (travelled.get(), hidden.get());
    eprintln!(
        "{made} mounts made in {tried} experiments, {travelled} travelled, {hidden} with copies out of reach"
    );
    if made < tried / 2 || travelled < made / 4 || hidden == 0 {
        return Err("the experiments are too poor to prove anything".into());
    }
    Ok(Completion::Completed)
}

/// How an experiment went.
struct Found {
    copies: usize,
    hidden: usize,
}

/// A copy of the new mount: namespace, the mount it lies on, where.
type Copy = (usize, u64, MountPath);

/// Makes the world and the mount, and compares; none when the mount cannot be made there.
fn carry_out(machine: &Machine, experiment: &Experiment) -> Result<Option<Found>, TestCaseError> {
    let failed = |what: String| TestCaseError::fail(what);
    let mut world = World::new(machine).map_err(failed)?;
    for operation in &experiment.operations {
        world.apply(operation).map_err(failed)?;
    }
    let before = world.tables().map_err(failed)?;
    let namespace = experiment.namespace % before.len();
    let path = MountPath::from(experiment.directory.path());
    if !world.mount(namespace, experiment.directory).map_err(failed)? {
        return Ok(None);
    }
    let after = world.tables().map_err(failed)?;

    let label = |index: usize| format!("namespace {index}");
    let labelled = before.iter().enumerate().map(|(i, table)| (label(i), table.clone()));
    let graph = MountGraph::build(labelled);
    let show = |what: &str| -> String {
        let tables: Vec<String> = [("before", &before), ("after", &after)]
            .into_iter()
            .flat_map(|(when, tables)| {
                tables.iter().enumerate().map(move |(i, t)| format!("{i} {when}:\n{t}"))
            })
            .collect();
        format!("{what}\n{}", tables.join("\n"))
    };

    let predicted = predict(&graph, &before, namespace, &path, label);
    let seen = copies(&after);
    if predicted != seen {
        let what = format!("copies predicted {predicted:?}, made {seen:?}");
        return Err(failed(show(&what)));
    }
    for index in 0..before.len() {
        let answer = visibility(&graph, &label(namespace), &path, &label(index))
            .ok_or_else(|| failed(show("no answer")))?;
        let candidates = seen.iter().filter(|copy| copy.0 == index).map(|copy| copy.2.clone());
        let reached = world.reached(index, candidates.collect()).map_err(failed)?;
        if answer.seen_at != reached {
            let what = format!("{answer}\n{:?} predicted, {reached:?} reached", answer.seen_at);
            return Err(failed(show(&what)));
        }
        if answer.seen_at.is_empty() == answer.broken.is_none() {
            return Err(failed(show(&format!("{answer:?} contradicts itself"))));
        }
    }
    let reachable: usize = (0..before.len())
        .filter_map(|index| visibility(&graph, &label(namespace), &path, &label(index)))
        .map(|answer| answer.seen_at.len())
        .sum();
    Ok(Some(Found { copies: seen.len() - 1, hidden: seen.len().saturating_sub(reachable) }))
}

/// The new mount and its copies, by the graph of the tables before.
fn predict(
    graph: &MountGraph,
    before: &[MountTable],
    namespace: usize,
    path: &MountPath,
    label: impl Fn(usize) -> String,
) -> BTreeSet<Copy> {
    let Some(covering) = before[namespace].covering(path) else { return BTreeSet::new() };
    let Some(directory) = covering.directory_of(path) else { return BTreeSet::new() };
    let from = MountRef::new(label(namespace), covering.mount_id);
    let mut copies = BTreeSet::from([(namespace, covering.mount_id, path.clone())]);
    for (index, table) in before.iter().enumerate() {
        for mount in table {
            let to = MountRef::new(label(index), mount.mount_id);
            if graph.would_see(&from, &directory, &to)
                && let Some(at) = mount.path_of(&directory)
            {
                copies.insert((index, mount.mount_id, at));
            }
        }
    }
    copies
}

/// The new mount and its copies, as the kernel made them.
fn copies(after: &[MountTable]) -> BTreeSet<Copy> {
    let mut copies = BTreeSet::new();
    for (index, table) in after.iter().enumerate() {
        let new = table.iter().filter(|mount| mount.source == MountPath::from(world::NEW));
        copies.extend(new.map(|mount| (index, mount.parent_id, mount.mount_point.clone())));
    }
    copies
}
