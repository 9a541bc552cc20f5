//! Mounts that are the client of a server, which is away: the mount stays, and its client waits, fails, and connects again.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::cause::{Cause, CauseId, Fix};
use super::dead::{cause, is_dead, probe};
use super::scene::first_replicas;
use crate::comparison::Transport;
use crate::observation::{Access, Actor, MountView, Observation, Outcome};
use crate::plan::{Fault, Role};
use crate::report::{Act, Deed, Report, Status};

/// The cause of what a server's absence explains, and the report without those observations, for the other rules.
pub(super) fn apart(report: &Report) -> (Option<Cause>, Cow<'_, Report>) {
    let Some(transport) = report.plan.served_by() else { return (None, Cow::Borrowed(report)) };
    let seen: Vec<&Observation> =
        report.timeline.iter().filter(|seen| is_explained(report, transport, seen)).collect();
    if seen.is_empty() {
        return (None, Cow::Borrowed(report));
    }
    let mut rest = report.clone();
    rest.timeline.retain(|seen| !is_explained(report, transport, seen));
    let phases = report.plan.is_five_phases();
    let in_order = phases && report.phases.iter().all(|phase| phase.status == Status::Passed);
    let cause = (!in_order).then(|| away(report, transport, &seen));
    (cause, Cow::Owned(rest))
}

/// Whether a fault hits the server and not its client: a pod that goes takes both, and a connection is the client's.
fn hits_the_server_alone(fault: &Fault) -> bool {
    !matches!(fault, Fault::Delete | Fault::ForceDelete | Fault::KillParent | Fault::Abort)
}

/// Whether the producer's mount outlived its last fault, because the client of its server did.
pub(crate) fn mount_stays(report: &Report) -> bool {
    let last = report.acts.iter().rev().find_map(|act| match &act.deed {
        Deed::Fault { fault } if !fault.ends_a_fault() => Some(fault),
        _ => None,
    });
    report.plan.served_by().is_some() && last.is_none_or(hits_the_server_alone)
}

/// The faults that hit the server. A client that is the kernel is left without one by those that end the pod too.
fn faults(report: &Report) -> impl DoubleEndedIterator<Item = &Act> {
    let kernels = report.plan.served_by().is_some_and(Transport::is_mounted_by_the_kernel);
    let serves =
        |name: &String| report.plan.workload(name).is_some_and(|spec| spec.role == Role::Producer);
    report.acts.iter().filter(move |act| match &act.deed {
        Deed::Fault { fault } => {
            !fault.is_on_the_node()
                && !fault.ends_a_fault()
                && (hits_the_server_alone(fault) || kernels && *fault != Fault::Abort)
                && act.on.iter().any(serves)
        }
        _ => false,
    })
}

/// Whether somebody saw the absence of the server: after a fault, and before that actor could read again. A dead FUSE
/// connection is that of a client that has died too.
fn is_explained(report: &Report, transport: Transport, seen: &Observation) -> bool {
    let Some(fault) = faults(report).rfind(|act| act.from_us <= seen.at_us) else { return false };
    let good = |from_us: u64, until_us: u64| {
        report.timeline.iter().any(|other| {
            other.actor == seen.actor
                && other.outcome.is_ok()
                && (from_us..until_us).contains(&other.at_us)
        })
    };
    let waits = match &seen.outcome {
        Outcome::Hang { .. } => true,
        Outcome::Errno { .. } => transport.is_mounted_by_the_kernel() || !is_dead(seen),
        // What the client had from before, until it asked again.
        Outcome::WrongContent { .. } => good(seen.at_us, u64::MAX),
        _ => false,
    };
    waits
        && seen.mount.as_ref().is_none_or(MountView::is_served)
        && !good(fault.from_us, seen.at_us)
}

fn away(report: &Report, transport: Transport, seen: &[&Observation]) -> Cause {
    let own: Vec<&Observation> =
        seen.iter().filter(|one| one.access != Access::Held).copied().collect();
    let first = own.first().unwrap_or(&seen[0]);
    let waiting: BTreeSet<&Actor> = own.iter().map(|one| &one.actor).collect();
    let last = |actor: &Actor| {
        report.timeline.iter().rfind(|one| one.actor == *actor && one.access != Access::Held)
    };
    // One that a phase has made for itself is not asked again.
    let of_the_plan = |one: &&Observation| match &one.actor {
        Actor::Workload { name, .. } => report.plan.workload(name).is_some(),
        _ => true,
    };
    let lost: Vec<&Observation> = waiting
        .iter()
        .filter_map(|actor| last(actor))
        .filter(|one| !one.outcome.is_ok())
        .filter(of_the_plan)
        .collect();
    let fault_us = faults(report).next().map_or(0, |act| act.from_us);
    let again = report.acts.iter().any(|act| {
        act.from_us > fault_us && matches!(act.deed, Deed::Restart { .. } | Deed::Start)
    });
    let mut classes: Vec<String> = Vec::new();
    for one in &own {
        let class = one.outcome.class().to_string();
        if !classes.contains(&class) {
            classes.push(class);
        }
    }
    let (gave, server) =
        (classes.join(", "), if transport.is_nfs() { "nfs-ganesha" } else { "smbd" });
    let what = match transport.is_re_export() {
        true => format!("the FUSE daemon below {server}"),
        false => format!("the server of {transport} ({server})"),
    };
    let title = match (lost.is_empty(), again) {
        (true, _) if mount_stays(report) => format!(
            "{what} was away, and its client waited for it ({gave}); the mount stayed, and answered again by itself"
        ),
        (true, _) => format!(
            "{what} was away, and its client waited for it ({gave}) until there was a new mount"
        ),
        (false, true) => {
            format!("{what} serves again, and its client has not connected again ({gave})")
        }
        (false, false) => format!("{what} is away, and its client waits for it ({gave})"),
    };
    let bound = match transport {
        Transport::SmbCifs | Transport::FuseSmbCifs => {
            "soft and a short echo_interval of mount.cifs(8)"
        }
        Transport::Nfs | Transport::FuseNfs => "soft, timeo and retrans of nfs(5)",
        Transport::SmbSmbnetfs => "smb_timeout and max_retry_count of smbnetfs",
        _ => "--low-level-retries and --contimeout of rclone",
    };
    let words = match lost.is_empty() {
        true => format!(
            "nothing has to be mounted anew; where a wait hurts, bound it at the client ({bound}), and keep the server up"
        ),
        false if transport == Transport::FuseNfs && again => format!(
            "start {server} again too, and mount its client anew: both keep what they had of the dead FUSE mount"
        ),
        false => "start the server again: its client connects by itself, and nothing is mounted anew; mount anew only for a \
                  client that does not"
            .into(),
    };
    let node = report.plan.bridge.fuse_path().as_str().into();
    let mut evidence: Vec<String> = own.iter().take(4).map(ToString::to_string).collect();
    evidence.extend(faults(report).flat_map(|act| act.proof.clone()));
    let until = || {
        let back = waiting.iter().filter_map(|actor| {
            let wrong_us =
                own.iter().filter(|one| one.actor == **actor).map(|one| one.at_us).max()?;
            let mut later = report.timeline.iter();
            later.find(|one| one.actor == **actor && one.at_us > wrong_us && one.outcome.is_ok())
        });
        back.max_by_key(|one| one.at_us).map(|one| one.step.clone())
    };
    let from_step = Some(first.step.clone());
    let until_step = if lost.is_empty() { until() } else { None };
    let actors = first_replicas(if lost.is_empty() { &own } else { &lost });
    let source = "mount.cifs(8); nfs(5); rclone mount".into();
    Cause {
        from_step,
        until_step,
        actors,
        source,
        ..cause(CauseId::ServerAway, title, evidence, Fix::words(words), probe(&node))
    }
}
