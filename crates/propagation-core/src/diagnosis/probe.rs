//! Liveness probes that restart what is not dead.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::scene::Scene;
use super::scene::{Spell, When};
use crate::mountinfo::MountEntry;
use crate::observation::{Actor, Observation, Outcome};
use crate::plan::{Fault, Repair, Role, WorkloadSpec};
use crate::report::{Act, Deed};

/// Why a restart was for nothing.
enum Why<'r> {
    /// The daemon was busy and answered later than the probe waits.
    Busy(&'r Observation),
    /// Nothing had been mounted yet.
    TooEarly,
}

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    impatient(scene).into_iter().collect()
}

fn impatient(scene: &Scene<'_>) -> Option<Cause> {
    let acts = &scene.report.acts;
    let probes =
        acts.iter().filter(|act| act.deed == Deed::Repair { repair: Repair::LivenessProbe });
    let restarted = probes.flat_map(|probe| {
        let within = move |act: &&Act| {
            matches!(act.deed, Deed::Restart { .. })
                && act.from_us >= probe.from_us
                && act.until_us <= probe.until_us
        };
        acts.iter().filter(within)
    });
    let mut found = restarted.filter_map(|restart| {
        let spec = scene.spec(restart.on.first()?)?;
        Some((restart, spec, why(scene, restart, spec)?))
    });
    found.next_back().map(|(restart, spec, why)| told(scene, restart, spec, &why))
}

fn why<'r>(scene: &Scene<'r>, restart: &Act, spec: &WorkloadSpec) -> Option<Why<'r>> {
    let before = |seen: &&Observation| seen.at_us <= restart.from_us;
    if spec.role == Role::Consumer && !scene.asked().filter(before).any(|seen| seen.outcome.is_ok())
    {
        return (!was_mounted(scene, restart.from_us)).then_some(Why::TooEarly);
    }
    // A consumer that is restarted meanwhile loses nothing but time.
    if spec.role != Role::Producer {
        return None;
    }
    // The last thing that was done to the daemon itself.
    let on_it = |act: &&Act| {
        let of_daemon = matches!(
            act.deed,
            Deed::Fault { .. } | Deed::Start | Deed::Stop | Deed::Restart { .. }
        );
        of_daemon && act.from_us < restart.from_us && act.on.contains(&spec.name)
    };
    let last = scene.report.acts.iter().rev().find(on_it)?;
    match &last.deed {
        Deed::Fault { fault: fault @ Fault::Slow(_) } if !fault.ends_a_fault() => {
            let waited = |seen: &&Observation| matches!(seen.outcome, Outcome::Hang { .. });
            scene.asked().filter(before).filter(waited).last().map(Why::Busy)
        }
        _ => None,
    }
}

/// Whether the node had the mount before a time.
fn was_mounted(scene: &Scene<'_>, at_us: u64) -> bool {
    let captures = scene.report.captures.iter().filter(|capture| capture.at_us <= at_us);
    let mut tables = captures.filter_map(|capture| capture.table(&Actor::Node));
    tables.any(|table| table.at(&scene.fuse_path).is_some_and(MountEntry::is_fuse))
}

fn told(scene: &Scene<'_>, restart: &Act, spec: &WorkloadSpec, why: &Why<'_>) -> Cause {
    let name = &spec.name;
    let place = scene.history.place(&restart.step);
    // Whom the restart left behind.
    let after = |spell: &&Spell<'_>| scene.history.place(spell.from()) >= place;
    let spells: Vec<&Spell<'_>> = scene.history.spells.iter().filter(after).collect();
    let lasts = spells.iter().any(|spell| spell.lasts());
    let left: Vec<&Spell<'_>> = spells.into_iter().filter(|spell| spell.lasts() == lasts).collect();
    let until =
        left.iter().filter_map(|spell| spell.until).max_by_key(|step| scene.history.place(step));
    let next = scene.report.phases.iter().skip_while(|phase| phase.id != restart.step).nth(1);
    let until = until.or(next.map(|phase| phase.id.as_str())).unwrap_or(&restart.step);
    let mut actors: Vec<Actor> = left.iter().map(|spell| spell.actor.clone()).collect();
    actors.dedup();
    if actors.is_empty() {
        actors.push(Actor::workload(name.clone()));
    }
    let (title, mut evidence, words) = match why {
        Why::Busy(seen) => (
            format!(
                "a liveness probe restarted {name} while its daemon was alive and busy: its limit is shorter than the \
                 time that the daemon needs, and a restart ends the mount for all who hold it"
            ),
            vec![seen.to_string()],
            "give the probe a longer timeout (timeoutSeconds) and more tries (failureThreshold), so that it takes no \
             slow answer for a dead daemon",
        ),
        Why::TooEarly => (
            format!(
                "a liveness probe restarted {name} before anything had been mounted: what is not there yet is not dead"
            ),
            Vec::new(),
            "begin to probe once the mount has been there: a startupProbe, or an initialDelaySeconds that is longer than \
             the producer needs",
        ),
    };
    evidence.push(format!("{} in {}: {name} was restarted", Repair::LivenessProbe, restart.step));
    evidence
        .extend(left.iter().take(4).filter_map(|spell| spell.seen.last()).map(ToString::to_string));
    let cause = Cause {
        id: CauseId::ImpatientProbe,
        from_step: None,
        until_step: None,
        title,
        confidence: Confidence::Likely,
        actors,
        mounts: Vec::new(),
        evidence,
        fix: Fix::yaml(
            words,
            "startupProbe:\n  periodSeconds: 5\n  failureThreshold: 30\nlivenessProbe:\n  timeoutSeconds: 30\n  \
             failureThreshold: 3\n",
        ),
        verify: format!("kubectl get pod {name} --watch   # no restart while the daemon is busy"),
        source: "https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/"
            .into(),
    };
    let until = (!lasts).then(|| until.to_owned());
    When { from: Some(restart.step.clone()), until }.of(cause)
}
