//! Starts that are refused because the volume's source is not there.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::runtime::said_by_the_runtime;
use super::scene::Scene;
use super::text::{names, shell};
use crate::mountinfo::MountPath;
use crate::observation::Actor;
use crate::plan::Volume;
use crate::program::RefusalKind;
use crate::report::Failure;

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    source_missing(scene).into_iter().collect()
}

fn source_missing(scene: &Scene<'_>) -> Option<Cause> {
    let refused = scene.refused(RefusalKind::Missing);
    let about_a_source = |failure: &&Failure| scene.named_volume(failure).is_some();
    let refused: Vec<&Failure> = refused.into_iter().filter(about_a_source).collect();
    let first = *refused.first()?;
    let spec = scene.spec(&first.workload)?;
    let volume = scene.named_volume(first)?;
    let source = volume.source;
    let path = MountPath::from(source.as_str());
    let place = scene.history.place(&first.step);
    // It was there when somebody started with it, or when something was mounted on it.
    let had =
        scene.report.captures.iter().filter(|one| scene.history.place(&one.step) < place).find(
            |one| {
                let mounted =
                    one.table(&Actor::Node).is_some_and(|table| table.at(&path).is_some());
                let runs = one.table(&Actor::workload(first.workload.clone())).is_some();
                mounted && path != scene.fuse_path || runs
            },
        );
    let mut whose: Vec<&str> = refused.iter().map(|one| one.workload.as_str()).collect();
    whose.sort_unstable();
    whose.dedup();
    let who = names(whose.iter().copied());
    let words: Vec<(&str, &str)> =
        refused.iter().map(|one| (one.workload.as_str(), one.words.as_str())).collect();
    let mut evidence = said_by_the_runtime(&words);
    evidence.extend(had.map(|one| format!("after {} it was there", one.step)));
    let title = match had {
        Some(_) => format!(
            "the source of the volume of {who} ({source}) has been removed while it was in use: who ran went on with \
             what it had bound, and the next start finds nothing"
        ),
        None => format!(
            "the source of the volume of {who} ({source}) is not there yet when the container starts, and its type lets \
             nobody make it"
        ),
    };
    let wanted = scene.wanted_by(spec);
    // Where it is to see the mount of a producer at that very path, nothing is to be bound.
    let published = volume.is_main
        && matches!(spec.volume, Volume::Path(_))
        && had.is_some()
        && !path.starts_with(&wanted);
    let words = match published {
        true => format!(
            "bind the mount there again (publish the volume), then start {who}; remove no volume that is in use"
        ),
        false => format!(
            "make the directory before {who} starts, or use hostPath with type DirectoryOrCreate"
        ),
    };
    let bind = format!("mount --bind {} {}", shell(&wanted.to_string_lossy()), shell(&source));
    let command = match published {
        true => format!("mkdir -p {} && {bind}   # on the node", shell(&source)),
        false => format!("mkdir -p {}   # on the node", shell(&source)),
    };
    let cause = Cause {
        id: CauseId::SourceMissing,
        from_step: None,
        until_step: None,
        title,
        confidence: Confidence::Likely,
        actors: whose.iter().map(|name| Actor::workload(*name)).collect(),
        mounts: Vec::new(),
        evidence,
        fix: Fix::command(words, command),
        verify: format!("stat {}   # on the node: no error", shell(&source)),
        source: "https://kubernetes.io/docs/concepts/storage/volumes/#hostpath".into(),
    };
    Some(scene.when_failed(&refused).of(cause))
}
