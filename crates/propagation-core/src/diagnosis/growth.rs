//! Mounts that multiply with every start of a container.

use std::collections::{HashMap, HashSet};

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::scene::Scene;
use super::text::{KUBERNETES_MODES, line, names, shell, yaml};
use crate::mountinfo::{DeviceId, MountEntry, MountPath, MountRef, MountTable};
use crate::observation::Actor;
use crate::plan::{ExtraVolume, Propagation, WorkloadSpec};
use crate::report::Deed;

/// Number of steps, from the last one back, of which the counts are shown.
const STEPS_SHOWN: usize = 8;

/// Mounts that are equal but for their ids: one filesystem's directory, at one place.
type Equal<'t> = (DeviceId, &'t MountPath, &'t MountPath);

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    multiplied(scene).into_iter().collect()
}

/// A place of the node on which equal mounts accumulate.
fn multiplied(scene: &Scene<'_>) -> Option<Cause> {
    let tables: Vec<(&str, &MountTable)> = scene
        .report
        .captures
        .iter()
        .filter_map(|capture| Some((capture.step.as_str(), capture.table(&Actor::Node)?)))
        .collect();
    let (_, first) = tables.first()?;
    let (_, last) = tables.last()?;
    let before = counted(first);
    // A program that binds once makes more of them too, and no start of a container does.
    let starts: HashSet<&str> = scene
        .report
        .acts
        .iter()
        .filter(|act| matches!(act.deed, Deed::Start | Deed::Restart { .. }))
        .map(|act| act.step.as_str())
        .collect();
    let grew_in = |equal: &Equal<'_>| {
        let there = |table: &MountTable| table.iter().filter(|mount| key(mount) == *equal).count();
        tables.windows(2).find_map(|pair| {
            let ((_, earlier), (step, later)) = (pair[0], pair[1]);
            let grew = starts.contains(step) && there(later) > there(earlier).max(1);
            grew.then_some(step)
        })
    };
    // FUSE mounts lie on each other for other reasons: a repair by re-binding leaves them.
    let (equal, mounts) = counted(last)
        .into_iter()
        .filter(|(equal, mounts)| {
            let grown = mounts.len() > before.get(equal).map_or(0, Vec::len);
            grown && mounts.len() > 1 && !mounts[0].is_fuse() && grew_in(equal).is_some()
        })
        .max_by_key(|(equal, mounts)| (mounts.len(), *equal))?;
    let at = equal.2;
    let workloads = scene.report.plan.workloads.iter();
    let nested: Vec<&WorkloadSpec> =
        workloads.filter(|spec| has_volume_in_volume(scene, spec, at)).collect();
    let mut evidence: Vec<String> =
        mounts.iter().take(3).map(|mount| line("node", mount)).collect();
    let from = tables.len().saturating_sub(STEPS_SHOWN);
    evidence.extend(tables[from..].iter().map(|(step, table)| {
        let there = table.iter().filter(|mount| key(mount) == equal).count();
        format!("after {step}: {there} there, {} mounts on the node in all", table.entries().len())
    }));
    let who = match nested.is_empty() {
        true => "a container with one volume inside another that is Bidirectional".to_owned(),
        false => names(nested.iter().map(|spec| spec.name.as_str())),
    };
    Some(Cause {
        id: CauseId::MountsMultiply,
        from_step: grew_in(&equal).map(str::to_owned),
        until_step: None,
        title: format!(
            "{} equal mounts lie on each other at {at} of the node: what {who} mounts inside its \
             Bidirectional volume reaches the node, stays there, and is copied and doubled by its next \
             start",
            mounts.len()
        ),
        confidence: if nested.is_empty() { Confidence::Possible } else { Confidence::Likely },
        actors: nested.iter().map(|spec| Actor::workload(spec.name.clone())).collect(),
        mounts: mounts.iter().take(8).map(|m| MountRef::new("node", m.mount_id)).collect(),
        evidence,
        fix: Fix::yaml(
            "make the outer volume HostToContainer, or mount the inner one outside it; then take the \
             mounts off the node, from the top: umount as often as there are mounts",
            format!(
                "volumeMounts:\n  - name: outer\n    mountPath: {}\n    mountPropagation: \
                 HostToContainer\n",
                yaml(&nested.first().map_or("/mnt".into(), |s| scene.paths(s).destination))
            ),
        ),
        verify: format!(
            "grep -cF {} /proc/self/mountinfo   # on the node: the same after every restart",
            shell(&format!(" {} ", at.to_string_lossy()))
        ),
        source: format!(
            "{KUBERNETES_MODES}; https://github.com/kubernetes/kubernetes/issues/106962"
        ),
    })
}

fn key(mount: &MountEntry) -> Equal<'_> {
    (mount.device, &mount.root, &mount.mount_point)
}

fn counted(table: &MountTable) -> HashMap<Equal<'_>, Vec<&MountEntry>> {
    let mut counted: HashMap<Equal<'_>, Vec<&MountEntry>> = HashMap::new();
    for mount in table {
        counted.entry(key(mount)).or_default().push(mount);
    }
    counted
}

/// Whether a workload has one volume inside another that propagates its mounts to `at` on the node.
fn has_volume_in_volume(scene: &Scene<'_>, spec: &WorkloadSpec, at: &MountPath) -> bool {
    let main = scene.paths(spec);
    let main = [(main.source.as_str(), main.destination.as_str(), spec.propagation)];
    let filled = |volume: &ExtraVolume| scene.report.plan.fill_paths(&volume.source);
    let extra: Vec<(String, &str, Propagation)> = spec
        .volumes
        .iter()
        .map(|volume| (filled(volume), volume.destination.as_str(), volume.propagation))
        .collect();
    let extra = extra.iter().map(|(source, at, propagation)| (source.as_str(), *at, *propagation));
    let all: Vec<(&str, &str, Propagation)> = main.into_iter().chain(extra).collect();
    let inside = |inner: &str, outer: &str| {
        inner != outer && MountPath::from(inner).starts_with(&MountPath::from(outer))
    };
    all.iter().any(|(source, outer, propagation)| {
        *propagation == Propagation::Bidirectional
            && at.starts_with(&MountPath::from(*source))
            && all.iter().any(|(_, inner, _)| inside(inner, outer))
    })
}
