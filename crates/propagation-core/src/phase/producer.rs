//! Checks of containers that start, and of the producer: its plain file and its FUSE mount reach the node.

use super::tally::{NO_SECOND_USER, allow_other_gives, evidence, tally};
use crate::backend::Feature;
use crate::context::RunContext;
use crate::error::{Error, ErrorKind};
use crate::node::{Look, Target};
use crate::observation::{Actor, MountView, Observation, Outcome};
use crate::plan::OTHER_UID;
use crate::program::{RefusalKind, StartRefused};
use crate::report::{Check, CheckId};

/// The runtime has started containers; whether it has started all of them.
///
/// # Errors
/// As [`no_limit`].
pub(super) fn started(context: &mut RunContext<'_>, names: &[String]) -> Result<bool, Error> {
    let refusals = names.iter().filter_map(|name| Some((name, context.refusal(name)?)));
    let refusals: Vec<(String, StartRefused)> =
        refusals.map(|(name, refusal)| (name.clone(), refusal.clone())).collect();
    no_limit(&refusals)?;
    for (name, refusal) in &refusals {
        context.check(refused(name, refusal));
    }
    Ok(refusals.is_empty())
}

/// The check for a container that the runtime refused.
pub(super) fn refused(name: &str, refusal: &StartRefused) -> Check {
    let expected = "the runtime starts the container";
    Check::new(CheckId::Started(name.to_owned()), false, expected, refusal.text.clone())
}

/// Checks that no start was refused for a limit of the machine, which says nothing about propagation.
///
/// # Errors
/// [`ErrorKind::Environment`] with the limit, when a start was refused for one.
fn no_limit(refusals: &[(String, StartRefused)]) -> Result<(), Error> {
    let limited = refusals.iter().find(|(_, refusal)| refusal.kind == RefusalKind::NoRoom);
    limited.map_or(Ok(()), |(name, refusal)| {
        let operation = format!("start {name}");
        Err(Error::new(ErrorKind::Environment, operation, refusal.text.clone()).with_fix(
            "raise the limit (user.max_mnt_namespaces and fs.mount-max of sysctl, ulimit -u, \
             ulimit -n), or use fewer consumers",
        ))
    })
}

/// Waits for the producer to serve; records the check and returns whether it does.
pub(super) async fn mounted(context: &mut RunContext<'_>) -> Result<bool, Error> {
    let name = context.plan.producer().map_or("producer", |spec| spec.name.as_str());
    let failure = match context.workload(name) {
        Some(producer) => context.until_mounted(&*producer).await?,
        None => Some("it was not started".to_owned()),
    };
    Ok(record_mounted(context, failure))
}

/// Records whether the producer serves, or why not; returns whether it does.
pub(super) fn record_mounted(context: &mut RunContext<'_>, failure: Option<String>) -> bool {
    let expected = "the producer mounts and answers";
    let served = failure.is_none();
    let observed = failure.unwrap_or_else(|| expected.to_owned());
    context.check(Check::new(CheckId::Mounted, served, expected, observed));
    served
}

/// The producer's plain file shows on the node, and so does its FUSE mount, to the users that it admits.
pub(super) async fn shows_on_node(context: &mut RunContext<'_>) -> Result<(), Error> {
    let plain = context.observe(&[Actor::Node], &Look::default().at(Target::Bridge)).await?;
    context.check(sharing(&plain));
    let uids: &[u32] =
        if context.capabilities().has(Feature::OtherUids) { &[0, OTHER_UID] } else { &[0] };
    let fuse = context.observe(&[Actor::Node], &Look::default().as_users(uids)).await?;
    let served = context.plan.served_by().is_some();
    context.check(propagation(&fuse, served));
    let allow_other = allow_other(&fuse, context.plan.fuse.allow_other, served);
    context.check(allow_other);
    Ok(())
}

fn sharing(seen: &[Observation]) -> Check {
    let all: Vec<&Observation> = seen.iter().collect();
    Check::new(
        CheckId::Sharing,
        seen.iter().all(|o| o.outcome.is_ok()),
        "a plain file that the producer wrote into the volume shows on the host",
        format!("its plain file, {}", tally(&all)),
    )
    .with_evidence(evidence(&all))
}

fn propagation(seen: &[Observation], served: bool) -> Check {
    let mount = if served { "mount" } else { "FUSE mount" };
    let as_root: Vec<&Observation> = seen.iter().filter(|o| o.uid == 0).collect();
    let in_table = as_root.iter().all(|o| o.mount.as_ref().is_some_and(MountView::is_served));
    let read = as_root.iter().all(|o| o.outcome.is_ok());
    Check::new(
        CheckId::Propagation,
        in_table && read && !as_root.is_empty(),
        format!("the {mount} is in the host's mount table and its marker reads back the nonce"),
        format!("its {mount}, {}", tally(&as_root)),
    )
    .with_evidence(evidence(&as_root))
}

fn allow_other(seen: &[Observation], asked_for: bool, served: bool) -> Check {
    let others: Vec<&Observation> = seen.iter().filter(|o| o.uid != 0).collect();
    let expected = match asked_for {
        true if served => format!("uid {OTHER_UID} reads it too"),
        true => format!("uid {OTHER_UID} reads it too (allow_other)"),
        false => format!("uid {OTHER_UID} is kept out (no allow_other)"),
    };
    let wanted = allow_other_gives(asked_for);
    if others.is_empty() {
        return Check::skipped(CheckId::AllowOther, expected, NO_SECOND_USER);
    }
    if let Some(Outcome::Skipped { reason }) = others.first().map(|o| &o.outcome) {
        return Check::skipped(CheckId::AllowOther, expected, reason.clone());
    }
    let ok = others.iter().all(|o| o.outcome.class() == wanted);
    let observed = format!("as uid {OTHER_UID}, {}", tally(&others));
    Check::new(CheckId::AllowOther, ok, expected, observed).with_evidence(evidence(&others))
}
