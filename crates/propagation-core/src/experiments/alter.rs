//! Applying changes to a plan.

use crate::plan::{
    Action, Fault, FuseSpec, Names, Plan, Role, Stale, StartOrder, Step, WorkloadSpec,
};

/// When a workload starts, relative to the producer's first mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    BeforeMount,
    AfterMount,
}

/// Every filesystem that the plan's producers serve.
fn filesystems(plan: &mut Plan) -> impl Iterator<Item = &mut FuseSpec> {
    let own = plan.workloads.iter_mut().filter_map(|workload| workload.fuse.as_mut());
    own.chain([&mut plan.fuse])
}

pub(super) fn allow_other(plan: &mut Plan) {
    let before = plan.clone();
    filesystems(plan).for_each(|fuse| fuse.allow_other = true);
    if *plan != before {
        user_allow_other(plan);
    }
}

/// Every filesystem is mounted writable.
pub(super) fn writable(plan: &mut Plan) {
    filesystems(plan).for_each(|fuse| fuse.read_only = false);
}

/// Writes to the fuse.conf of the node for producers that are processes of it, and to that of the containers for
/// others.
pub(super) fn user_allow_other(plan: &mut Plan) {
    const LINE: &str = "user_allow_other\n";
    let add = |file: &mut Option<String>| {
        let there = file.as_deref().unwrap_or_default();
        if !there.split_inclusive('\n').any(|line| line == LINE) {
            let end = if there.is_empty() || there.ends_with('\n') { "" } else { "\n" };
            *file = Some(format!("{there}{end}{LINE}"));
        }
    };
    let needs = |host: bool| {
        move |spec: &&WorkloadSpec| {
            spec.role == Role::Producer
                && spec.host == host
                && (spec.uid != 0 || spec.user_namespace)
        }
    };
    if plan.workloads.iter().any(|spec| needs(true)(&spec)) {
        add(&mut plan.node.fuse_conf);
    }
    if plan.workloads.iter().any(|spec| needs(false)(&spec)) {
        add(&mut plan.node.container_fuse_conf);
    }
}

/// What producers do with dead mounts, wherever the plan says it.
pub(super) fn stale(plan: &mut Plan, stale: Stale) {
    filesystems(plan).for_each(|fuse| fuse.stale = stale);
    each_step(&mut plan.steps, &mut |step| {
        if let Some(said) = &mut step.stale {
            *said = stale;
        }
    });
}

/// Gives producers a liveness probe where the plan stops daemons.
pub(super) fn end_hung_daemon(plan: &mut Plan) {
    let mut stops = plan.fault == Fault::Stop;
    each_step(&mut plan.steps, &mut |step| {
        stops |= step.action == Action::Fault(Fault::Stop);
    });
    let probed = |spec: &&mut WorkloadSpec| spec.role == Role::Producer && !spec.host && stops;
    plan.workloads.iter_mut().filter(probed).for_each(|spec| spec.liveness_probe = true);
}

pub(super) fn each_step(steps: &mut [Step], alter: &mut impl FnMut(&mut Step)) {
    for step in steps {
        alter(step);
        if let Action::Repeat { steps, .. } = &mut step.action {
            each_step(steps, alter);
        }
    }
}

/// Starts a workload before or after the producer's first start: by its key `order`, and where a step names
/// it, by its place among the steps.
pub(super) fn order(plan: &mut Plan, name: &str, when: When) {
    let wanted = match when {
        When::BeforeMount => StartOrder::BeforeMount,
        When::AfterMount => StartOrder::AfterMount,
    };
    let producers: Vec<String> =
        plan.with_role(Role::Producer).map(|spec| spec.name.clone()).collect();
    let first_start_of = |steps: &[Step], of: &dyn Fn(&str) -> bool| {
        steps.iter().position(|step| match &step.action {
            Action::Start(names) => !names.is_all() && names.as_slice().iter().any(|n| of(n)),
            _ => false,
        })
    };
    let own = first_start_of(&plan.steps, &|one| one == name);
    let producer = first_start_of(&plan.steps, &|one| producers.iter().any(|p| p == one));
    if let (Some(own), Some(producer)) = (own, producer) {
        let is_before = own < producer;
        if own == producer || is_before == (when == When::BeforeMount) {
            return;
        }
        let step = take(&mut plan.steps, own, name);
        let kept = plan.steps.len();
        // Where the step itself went away, those behind it have moved up.
        let gone = is_before && step.1;
        let at = match when {
            When::BeforeMount => producer,
            When::AfterMount => producer + 1 - usize::from(gone),
        };
        plan.steps.insert(at.min(kept), step.0);
        return;
    }
    let by_order = |step: &Step| match &step.action {
        Action::Start(names) => names.is_all(),
        Action::Phase(_) => true,
        _ => false,
    };
    if plan.steps.iter().any(by_order)
        && let Some(spec) = plan.workloads.iter_mut().find(|spec| spec.name == name)
    {
        spec.order = wanted;
    }
}

/// Removes a workload from a step that starts it; returns whether the step was removed with it.
fn take(steps: &mut Vec<Step>, at: usize, name: &str) -> (Step, bool) {
    let own = Action::Start(Names::One(name.to_owned())).into();
    let rest: Vec<String> = match &steps[at].action {
        Action::Start(names) => {
            names.as_slice().iter().filter(|one| *one != name).cloned().collect()
        }
        _ => Vec::new(),
    };
    if rest.is_empty() {
        return (steps.remove(at), true);
    }
    steps[at].action = Action::Start(Names::Several(rest));
    (own, false)
}
