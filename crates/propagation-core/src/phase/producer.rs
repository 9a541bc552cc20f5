//! Phase 2: the producer's plain file and its FUSE mount reach the host.

use async_trait::async_trait;

use super::{NO_SECOND_USER, Phase, evidence, tally};
use crate::context::RunContext;
use crate::error::Error;
use crate::node::Target;
use crate::observation::{Actor, MountView, Observation, Outcome};
use crate::plan::{OTHER_UID, Role, StartOrder, WorkloadSpec};
use crate::program::StartRefused;
use crate::report::Check;

/// Phase 2.
#[derive(Debug, Clone, Copy)]
pub struct Producer;

#[async_trait]
impl Phase for Producer {
    fn id(&self) -> &str {
        "producer"
    }

    fn requires(&self) -> &[&str] {
        &["host_setup"]
    }

    async fn run(&self, context: &mut RunContext<'_>) -> Result<(), Error> {
        context.next_generation()?;
        let plan = context.plan;
        let (producers, others): (Vec<_>, Vec<_>) = plan
            .workloads
            .iter()
            .filter(|spec| spec.role == Role::Producer || spec.order == StartOrder::BeforeMount)
            .cloned()
            .partition(|spec| spec.role == Role::Producer);
        let specs: Vec<WorkloadSpec> = others.into_iter().chain(producers).collect();
        let refusals = context.start(&specs).await?;
        for (name, refusal) in &refusals {
            context.check(refused(name, refusal));
        }
        if !refusals.is_empty() || !mounted(context).await? {
            return Ok(());
        }
        let plain = context.observe(&[Actor::Node], Target::Bridge, &[0]).await?;
        context.check(sharing(&plain));
        let uids: &[u32] = if context.capabilities().other_uids { &[0, OTHER_UID] } else { &[0] };
        let fuse = context.observe(&[Actor::Node], Target::Fuse, uids).await?;
        context.check(propagation(&fuse));
        let allow_other = allow_other(&fuse, plan.fuse.allow_other);
        context.check(allow_other);
        Ok(())
    }
}

/// The check for a container that the runtime refused.
pub(super) fn refused(name: &str, refusal: &StartRefused) -> Check {
    let check = Check::new(
        format!("started:{name}"),
        false,
        "the runtime starts the container",
        refusal.text.clone(),
    );
    let (cause, fix) = if refusal.text.contains("not a shared") {
        (
            "the mount that covers the volume does not propagate as the volume's mode needs",
            "mount --make-rshared the covering mount before the runtime starts",
        )
    } else {
        match refusal.errno.as_deref() {
            Some("ENOTCONN") => (
                "the volume's source is a dead FUSE mount, and the runtime looks at the source \
                 before it binds it",
                "unmount the dead mount on the host (umount --lazy), or use the directory above \
                 the mountpoint as the volume",
            ),
            Some("EACCES") => (
                "the runtime may not look at the volume's source: a FUSE mount without \
                 allow_other, or a security module",
                "mount with allow_other; look for denials in the kernel log",
            ),
            Some("hang") => (
                "the volume's source is a FUSE mount whose daemon does not answer",
                "continue or kill the daemon, or abort its connection in /sys/fs/fuse/connections",
            ),
            Some("ENOSPC") => (
                "the kernel's limit of mount namespaces or mounts is reached",
                "raise /proc/sys/user/max_mnt_namespaces or /proc/sys/fs/mount-max",
            ),
            Some("EROFS") => (
                "the volume's source does not exist and its filesystem is read-only",
                "name a bridge on a writable filesystem",
            ),
            _ => ("the runtime's own words are above", "remove what it names"),
        }
    };
    check.with_cause(cause, fix)
}

/// Waits for the producer to serve; records the check and returns whether it does.
pub(super) async fn mounted(context: &mut RunContext<'_>) -> Result<bool, Error> {
    let expected = "the producer mounts and answers";
    let name = context.plan.producer().map_or("producer", |spec| spec.name.as_str());
    let Some(producer) = context.workload(name) else {
        context.check(Check::new("mounted", false, expected, "it was not started"));
        return Ok(false);
    };
    let failure = context.until_mounted(&*producer).await?;
    let served = failure.is_none();
    let observed = failure.unwrap_or_else(|| expected.to_owned());
    let (cause, fix) = mount_failure(&observed);
    context.check(Check::new("mounted", served, expected, observed).with_cause(cause, fix));
    Ok(served)
}

/// Cause and fix for what a producer says when it cannot mount.
fn mount_failure(words: &str) -> (&'static str, &'static str) {
    if words.contains("user_allow_other") {
        (
            "allow_other was asked for by a user other than root, and the fuse.conf in the \
             producer's own namespace lacks user_allow_other",
            "add user_allow_other to /etc/fuse.conf in the producer's image, or run it as root",
        )
    } else if words.contains("fusermount3") && words.contains("ENOENT") {
        (
            "fusermount3 is not in the producer's image",
            "install the package fuse3 there, or run the producer as root",
        )
    } else if words.contains("EACCES") {
        (
            "the mount was denied with EACCES: a security module (AppArmor, SELinux), or the mode \
             of /dev/fuse",
            "look for denials in the kernel log; try an unconfined profile; chmod 0666 /dev/fuse",
        )
    } else if words.contains("EPERM") {
        (
            "the mount was denied with EPERM: the capability CAP_SYS_ADMIN is missing, or seccomp",
            "make the container privileged",
        )
    } else {
        ("the producer's own words are above", "remove what it names")
    }
}

fn sharing(seen: &[Observation]) -> Check {
    let all: Vec<&Observation> = seen.iter().collect();
    Check::new(
        "sharing",
        seen.iter().all(|o| o.outcome.is_ok()),
        "a plain file that the producer wrote into the volume shows on the host",
        format!("its plain file, {}", tally(&all)),
    )
    .with_evidence(evidence(&all))
    .with_cause(
        "the producer's volume is not the host's directory",
        "look at the hostPath of the producer: it must be the bridge on this very node",
    )
}

fn propagation(seen: &[Observation]) -> Check {
    let as_root: Vec<&Observation> = seen.iter().filter(|o| o.uid == 0).collect();
    let in_table = as_root.iter().all(|o| o.mount.as_ref().is_some_and(MountView::is_fuse));
    let read = as_root.iter().all(|o| o.outcome.is_ok());
    let cause = match as_root.first().map(|o| &o.outcome) {
        Some(Outcome::Absent) => {
            "the mount stayed in the producer's namespace: its volume is not Bidirectional, or the \
             covering mount is not shared in the runtime's namespace"
        }
        Some(Outcome::Errno { name, .. }) if name == "EACCES" => {
            "the mount is there and lets nobody else in: allow_other is missing"
        }
        Some(Outcome::Hang { .. }) => "the mount is there and its daemon does not answer",
        _ => "the mount does not show on the host as the producer made it",
    };
    Check::new(
        "propagation",
        in_table && read && !as_root.is_empty(),
        "the FUSE mount is in the host's mount table and its marker reads back the nonce",
        format!("its FUSE mount, {}", tally(&as_root)),
    )
    .with_evidence(evidence(&as_root))
    .with_cause(cause, "use mountPropagation: Bidirectional, privileged, on a shared mount")
}

fn allow_other(seen: &[Observation], asked_for: bool) -> Check {
    let others: Vec<&Observation> = seen.iter().filter(|o| o.uid != 0).collect();
    let (expected, wanted) = if asked_for {
        (format!("uid {OTHER_UID} reads it too (allow_other)"), "ok")
    } else {
        (format!("uid {OTHER_UID} is kept out (no allow_other)"), "EACCES")
    };
    if others.is_empty() {
        return Check::skipped("allow_other", expected, NO_SECOND_USER);
    }
    if let Some(Outcome::Skipped { reason }) = others.first().map(|o| &o.outcome) {
        return Check::skipped("allow_other", expected, reason.clone());
    }
    let ok = others.iter().all(|o| o.outcome.class() == wanted);
    let observed = format!("as uid {OTHER_UID}, {}", tally(&others));
    Check::new("allow_other", ok, expected, observed).with_evidence(evidence(&others)).with_cause(
        "the mount lets only the mounting user in",
        "mount with -o allow_other (and user_allow_other in fuse.conf when not root)",
    )
}
