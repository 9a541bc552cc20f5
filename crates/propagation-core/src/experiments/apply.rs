//! The changes that fit a plan, and the plan with one of them.

use std::path::Path;

use super::alter::{each_step, order};
use super::change::{ALL, Alteration, Whom, definition};
use crate::plan::{Action, Names, Plan, Role, Step, Volume, WorkloadSpec};
use crate::report::{Change, What};

/// The plan with a change; none where the change has no effect, or makes a plan that cannot be run.
///
/// A change that is done once is appended after the last step: the plan does what a person would do by hand after
/// reading the report.
pub fn apply(change: &Change, plan: &Plan) -> Option<Plan> {
    if !concerns_the_bridge(change, plan) {
        return None;
    }
    let mut changed = plan.clone();
    let on = |name: &str| change.on.iter().any(|one| one == name);
    match definition(change.what).alteration {
        Alteration::Each(alter) => {
            changed.workloads.iter_mut().filter(|spec| on(&spec.name)).for_each(alter);
            follow(&mut changed, plan);
        }
        Alteration::Plan(alter) => alter(&mut changed),
        Alteration::Order(when) => {
            change.on.iter().for_each(|name| order(&mut changed, name, when))
        }
        Alteration::Step(action) => {
            if needs_keeper(&action) && !plan.workloads.iter().any(|w| plan.fuse_of(w).keeper) {
                return None;
            }
            changed.steps.push(Step { on: names(&change.on), ..action.into() });
        }
        Alteration::StepOn(action) => {
            let names = names(&change.on).unwrap_or_else(|| Names::One(Names::ALL.to_owned()));
            changed.steps.push(action(names).into());
        }
    }
    (changed != *plan && changed.problems().is_empty()).then_some(changed)
}

/// Has programs that run inside workloads name the mount where it is now.
fn follow(changed: &mut Plan, plan: &Plan) {
    let fuse = |plan: &Plan, name: &str| plan.workload(name).map(|w| w.paths(&plan.bridge).fuse);
    let after = changed.clone();
    each_step(&mut changed.steps, &mut |step| {
        let Action::Execute { command, inside } = &mut step.action else { return };
        if let (Some(from), Some(to)) = (fuse(plan, inside), fuse(&after, inside))
            && from != to
        {
            command.iter_mut().for_each(|word| *word = moved(word, &from, &to));
        }
    });
}

/// A word of a command in which one path, and what is in it, has moved.
fn moved(word: &str, from: &str, to: &str) -> String {
    let in_name = |c: char| c.is_alphanumeric() || "._-".contains(c);
    let mut text = String::new();
    let mut rest = word;
    while let Some(at) = rest.find(from) {
        let (before, behind) = (&rest[..at], &rest[at + from.len()..]);
        let ends = !before.ends_with(|c| in_name(c) || c == '/') && !behind.starts_with(in_name);
        text += before;
        text += if ends { to } else { from };
        rest = behind;
    }
    text + rest
}

/// Whether a change of volumes to the bridge is one of workloads that belong there: it would move a consumer to the
/// mount of another producer.
fn concerns_the_bridge(change: &Change, plan: &Plan) -> bool {
    let elsewhere =
        |name: &String| plan.workload(name).is_some_and(|spec| is_elsewhere(spec, plan));
    match change.what {
        What::VolumeBridge | What::VolumeAncestor => !change.on.iter().any(elsewhere),
        _ => true,
    }
}

/// Whether a workload depends on the mount of a producer at a path of its own.
fn is_elsewhere(spec: &WorkloadSpec, plan: &Plan) -> bool {
    let Volume::Path(path) = &spec.volume else { return false };
    let related = |other: &WorkloadSpec| match &other.volume {
        Volume::Path(own) => {
            let (own, path) = (Path::new(own), Path::new(path));
            own.starts_with(path) || path.starts_with(own)
        }
        _ => false,
    };
    plan.with_role(Role::Producer).any(related)
}

fn needs_keeper(action: &Action) -> bool {
    matches!(action, Action::Repair(crate::plan::Repair::HandOver))
}

fn names(on: &[String]) -> Option<Names> {
    (!on.is_empty()).then(|| Names::Several(on.to_vec()))
}

/// Every single change that makes another plan of this one: for all workloads that it can affect, and where there
/// are several, for each by itself.
pub(super) fn candidates(plan: &Plan) -> Vec<Change> {
    let mut changes = Vec::new();
    for what in ALL {
        let whom = definition(what).whom;
        if whom == Whom::Node {
            changes.push(Change { what, on: Vec::new() });
            continue;
        }
        let single = |spec: &WorkloadSpec| Change { what, on: vec![spec.name.clone()] };
        let touched = plan.workloads.iter().filter(|spec| whom.is(spec.role)).map(single);
        let touched: Vec<Change> = touched.filter(|one| apply(one, plan).is_some()).collect();
        if touched.len() > 1 {
            let on = touched.iter().flat_map(|one| one.on.clone()).collect();
            changes.push(Change { what, on });
        }
        changes.extend(touched);
    }
    changes.retain(|change| apply(change, plan).is_some());
    changes
}

/// A change in words, as an order.
pub(super) fn words(change: &Change) -> String {
    (definition(change.what).words)(&change.on.join(", "))
}

/// Whether a change is of the set-up.
pub(super) fn for_good(what: What) -> bool {
    definition(what).for_good()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Propagation, Role, StartOrder, Volume};

    #[test]
    fn what_changes_nothing_is_no_change() {
        let plan = Plan::default();
        let named = |what, on: &[&str]| Change {
            what,
            on: on.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(apply(&named(What::AllowOther, &[]), &plan), None);
        assert_eq!(apply(&named(What::VolumeBridge, &["consumer-late"]), &plan), None);
        assert_eq!(apply(&named(What::EndHungDaemon, &[]), &plan), None);
        assert!(candidates(&plan).iter().all(|change| apply(change, &plan).is_some()));
    }

    #[test]
    fn a_change_touches_whom_it_names() {
        let mut plan = Plan::default();
        for spec in plan.workloads.iter_mut().filter(|spec| spec.role == Role::Consumer) {
            spec.volume = Volume::Mountpoint;
        }
        let changes = candidates(&plan);
        let volume: Vec<&Change> =
            changes.iter().filter(|change| change.what == What::VolumeBridge).collect();
        assert_eq!(volume[0].on, ["consumer-early", "consumer-late"]);
        let late = apply(volume[2], &plan).expect("a change");
        assert_eq!(late.workload("consumer-early").map(|w| &w.volume), Some(&Volume::Mountpoint));
        assert_eq!(late.workload("consumer-late").map(|w| &w.volume), Some(&Volume::Bridge));
        assert_eq!(
            words(volume[1]),
            "Change `volume` of consumer-early to the directory above with HostToContainer"
        );
    }

    #[test]
    fn a_start_moves_behind_that_of_the_producer() {
        let start = |name: &str| Step::from(Action::Start(Names::One(name.to_owned())));
        let mut plan = Plan::default();
        plan.workloads =
            vec![WorkloadSpec::producer(), WorkloadSpec::consumer("app", StartOrder::AfterMount)];
        plan.steps = vec![start("app"), start("producer"), Action::Observe.into()];
        let change = Change { what: What::StartAfterMount, on: vec!["app".to_owned()] };
        let moved = apply(&change, &plan).expect("a change");
        assert_eq!(moved.steps, [start("producer"), start("app"), Action::Observe.into()]);
        assert_eq!(apply(&change, &moved), None);
        plan.steps = vec![Action::Start(Names::One("all".to_owned())).into()];
        let early = Change { what: What::StartBeforeMount, ..change };
        let moved = apply(&early, &plan).expect("a change");
        assert_eq!(moved.workloads[1].order, StartOrder::BeforeMount);
    }

    #[test]
    fn allow_other_of_a_producer_that_is_not_root_needs_the_file_too() {
        let mut plan = Plan::default();
        plan.fuse.allow_other = false;
        plan.workloads[0].uid = 1000;
        let change = Change { what: What::AllowOther, on: Vec::new() };
        let changed = apply(&change, &plan).expect("a change");
        assert_eq!(changed.node.container_fuse_conf.as_deref(), Some("user_allow_other\n"));
        plan.workloads[0].uid = 0;
        assert_eq!(apply(&change, &plan).expect("a change").node, plan.node);
    }

    #[test]
    fn a_program_follows_the_mount_of_its_workload() {
        assert_eq!(moved("ls /mnt/dfs/a; ls /mnt/dfs", "/mnt/dfs", "/x"), "ls /x/a; ls /x");
        for other in ["/mnt/dfs2", "/a/mnt/dfs", "/mnt"] {
            assert_eq!(moved(other, "/mnt/dfs", "/x"), other);
        }
        let mut plan = Plan::default();
        let run = |path: &str| Action::Execute {
            command: vec!["umount".to_owned(), path.to_owned()],
            inside: "consumer-late".to_owned(),
        };
        plan.steps = vec![run("/mnt/dfs").into()];
        let change = Change { what: What::VolumeAncestor, on: vec!["consumer-late".to_owned()] };
        let changed = apply(&change, &plan).expect("a change");
        let late = changed.workload("consumer-late").expect("a workload");
        let fuse = late.paths(&changed.bridge).fuse;
        assert_ne!(fuse, "/mnt/dfs");
        assert_eq!(changed.steps, [run(&fuse).into()]);
    }

    #[test]
    fn a_private_consumer_is_connected() {
        let mut plan = Plan::default();
        plan.workloads[1].propagation = Propagation::None;
        let change =
            Change { what: What::HostToContainer, on: vec![plan.workloads[1].name.clone()] };
        assert_eq!(apply(&change, &plan), Some(Plan::default()));
    }
}
