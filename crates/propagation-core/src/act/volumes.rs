//! Publishing volumes, and closing the descriptors that workloads hold.

use super::workloads::{make_bridge, specs};
use crate::context::{Done, Failures, RunContext};
use crate::error::Error;
use crate::observation::Actor;
use crate::plan::{Names, Volume, WorkloadSpec};
use crate::report::Deed;

/// Publishes the mount at the volume paths of workloads, or unpublishes it.
pub(super) async fn publish(
    context: &mut RunContext<'_>,
    names: &Names,
    deed: Deed,
) -> Result<Done, Error> {
    make_bridge(context).await?;
    let path = |spec: &WorkloadSpec| match &spec.volume {
        Volume::Path(path) if !spec.host => Some(path.clone()),
        _ => None,
    };
    let published: Vec<(String, String)> = specs(context, Some(names), |spec| path(spec).is_some())
        .into_iter()
        .filter_map(|spec| Some((path(&spec)?, spec.name)))
        .collect();
    let act = context.begin_act(deed.clone(), published.iter().map(|(_, name)| name.clone()));
    let (mut failures, mut proof) = (Failures::default(), Vec::new());
    for (path, name) in published {
        let done = match deed {
            Deed::Unpublish => context.node.unpublish(&path).await,
            _ => context.node.publish(&path).await,
        };
        let done = failures.take(Some(&name), done?);
        proof.extend(done.map(|()| format!("{deed}: {path}")));
    }
    let done = failures.into();
    context.end_act(act, proof, &done);
    Ok(done)
}

/// Closes the descriptors that workloads hold; the next look opens new ones.
pub(super) async fn reopen(context: &mut RunContext<'_>, names: &Names) -> Result<Done, Error> {
    for spec in specs(context, Some(names), |spec| context.runs(&spec.name)) {
        context.let_go(&Actor::workload(spec.name)).await?;
    }
    Ok(Done::Ok)
}
