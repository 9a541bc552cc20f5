//! Programs in a FUSE mount that get no rights by their mode, because the mount is nosuid.

use super::cause::{Cause, CauseId, Confidence};
use super::options;
use super::scene::Scene;
use super::text::{line, shell};
use crate::mountinfo::{MountEntry, MountPath, MountRef};
use crate::observation::Actor;
use crate::report::{Act, CheckId, Deed, PhaseReport, Status};

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    powerless(scene).into_iter().collect()
}

/// What sudo says of it, and what programs say that need root.
const SAID: [&str; 4] =
    ["'nosuid' option", "must be superuser", "ermission denied", "peration not permitted"];

fn powerless(scene: &Scene<'_>) -> Option<Cause> {
    let (act, said, actor, mount) = scene.report.acts.iter().rev().find_map(|act| {
        let Deed::Run { command } = &act.deed else { return None };
        let actor = act.on.first().map_or(Actor::Node, |name| Actor::workload(name.clone()));
        let path = MountPath::from(program(command)?);
        let mount = scene.table_in(&actor, &act.step)?.covering(&path)?;
        let nosuid = mount.mount_options.split(',').any(|option| option == "nosuid");
        let said = failed(scene.report.phase(&act.step)?).filter(|_| nosuid && mount.is_fuse())?;
        Some((act, said, actor, mount))
    })?;
    Some(cause(scene, act, said, &actor, mount))
}

/// The path of the program that a command runs as another user, or by itself.
fn program(command: &[String]) -> Option<&str> {
    let mut words = command.iter().map(String::as_str);
    match words.next()? {
        // setpriv(1): options with a value, then the program.
        "setpriv" | "runuser" | "sudo" => words.find(|word| word.starts_with('/')),
        word => Some(word).filter(|word| word.starts_with('/')),
    }
}

/// What a program said that failed.
fn failed(phase: &PhaseReport) -> Option<&str> {
    let of_program =
        |id: &CheckId| matches!(id, CheckId::Run) || *id == CheckId::Expect("run".to_owned());
    let checks = phase
        .checks
        .iter()
        .filter(|check| of_program(&check.id) && check.status != Status::Skipped);
    checks
        .map(|check| check.observed.as_str())
        .find(|said| SAID.iter().any(|part| said.contains(part)))
}

fn cause(scene: &Scene<'_>, act: &Act, said: &str, actor: &Actor, mount: &MountEntry) -> Cause {
    let at = mount.mount_point.to_string_lossy();
    let producer = scene.producer_of(Some(mount.device), act.from_us);
    let name = producer.map_or("the producer", |spec| spec.name.as_str());
    Cause {
        id: CauseId::MountedNosuid,
        from_step: Some(act.step.clone()),
        until_step: None,
        title: format!(
            "the FUSE mount at {at} of {actor} is nosuid, as FUSE mounts are unless root says otherwise: a set-uid \
             program in it runs with the rights of whoever starts it"
        ),
        confidence: Confidence::Likely,
        actors: vec![actor.clone()],
        mounts: vec![MountRef::new(actor.to_string(), mount.mount_id)],
        evidence: vec![said.to_owned(), line(actor, mount)],
        fix: options::with(
            scene,
            producer,
            "options: [suid]",
            "suid",
            format!(
                "let root mount it with -o suid (and -o dev for devices), then start {name} and those anew that have a copy \
                 of the mount: flags belong to each copy"
            ),
        ),
        verify: format!("findmnt -n -o OPTIONS --target {}   # without nosuid", shell(&at)),
        source: "mount.fuse3(8), suid; mount(2), MS_NOSUID".into(),
    }
}
