//! What security modules deny: the policy of SELinux, as the node's facts have its answers, or words for both.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::scene::Scene;
use crate::confinement::{Confinement, DomainDenied, FuseNeed};
use crate::facts::HostFacts;
use crate::observation::Actor;
use crate::report::Report;

/// The domain of those programs whom SELinux denies what they need: on a simulated node that of this program, on a
/// cluster also that of containers that are not privileged.
pub(super) fn denied_domain(
    report: &Report,
    need: FuseNeed,
    privileged: bool,
) -> Option<&DomainDenied> {
    let in_cluster = report.backend != "local" && !privileged;
    denied(report.environment.as_ref()?, need).find(|domain| domain.own || in_cluster)
}

/// The domains that SELinux denies something, that of the program itself first.
pub(super) fn denied(facts: &HostFacts, need: FuseNeed) -> impl Iterator<Item = &DomainDenied> {
    facts.confinement.iter().filter_map(move |one| match one {
        Confinement::SelinuxDenies(domain) if domain.what.contains(&need) => Some(domain),
        _ => None,
    })
}

/// Fix for a domain that may not open the device or mount.
pub(super) fn another_domain(denied: &DomainDenied) -> Fix {
    if denied.own {
        return Fix::command(
            "run it in a domain that may, or add a rule to the policy",
            "runcon -t unconfined_t -- propagation …",
        );
    }
    Fix::yaml(
        "let the producer's container run as spc_t, which SELinux does not confine, or add a rule to the policy",
        "securityContext:\n  seLinuxOptions:\n    type: spc_t\n",
    )
}

/// EACCES where the mount itself admits all users.
pub(super) fn denies(
    scene: &Scene<'_>,
    need: FuseNeed,
    privileged: bool,
    evidence: Vec<String>,
    actors: Vec<Actor>,
) -> Cause {
    let domain = denied_domain(scene.report, need, privileged);
    let any = any_module(scene, need, evidence, actors);
    let Some(domain) = domain else { return any };
    let fix = match (need, domain.fix_of_files()) {
        (FuseNeed::Files, (words, Some(command))) => Fix::command(words, command),
        (FuseNeed::Files, (words, None)) => Fix::words(words),
        _ => another_domain(domain),
    };
    let what = match need {
        FuseNeed::Files => {
            "access to the mount is denied with EACCES: SELinux enforces its policy, which does not let the domain \
             {} use files of FUSE mounts (fusefs_t); modes, users and mount options are not in the way"
        }
        _ => {
            "the mount is denied with EACCES: SELinux enforces its policy, which does not let the domain {} mount FUSE \
             filesystems; a missing capability gives EPERM"
        }
    };
    Cause {
        title: what.replace("{}", &domain.domain),
        fix,
        verify: "dmesg | grep -E 'avc: +denied.*fusefs_t'   # or ausearch -m avc; nothing new"
            .into(),
        source: "selinux(8); booleans(8); https://docs.kernel.org/admin-guide/LSM/SELinux.html"
            .into(),
        ..any
    }
}

/// The cause where it is not known which module it is.
fn any_module(
    scene: &Scene<'_>,
    need: FuseNeed,
    mut evidence: Vec<String>,
    actors: Vec<Actor>,
) -> Cause {
    let facts = scene.report.environment.as_ref();
    let modules = facts.map(|facts| facts.lsm.join(","));
    match modules.filter(|modules| !modules.is_empty()) {
        Some(modules) => evidence.push(format!("security modules of the node: {modules}")),
        None => evidence.push("security modules of the node: not readable".into()),
    }
    evidence.extend(facts.into_iter().flat_map(|facts| &facts.confinement).map(Confinement::words));
    let what = match need {
        FuseNeed::Files => "access to the mount",
        FuseNeed::Device | FuseNeed::Mount => "the mount",
    };
    Cause {
        id: CauseId::LsmDenies,
        from_step: None,
        until_step: None,
        title: format!(
            "{what} is denied with EACCES: a security module (AppArmor, SELinux) or a file mode, \
             not a missing capability, which gives EPERM"
        ),
        confidence: Confidence::Likely,
        actors,
        mounts: Vec::new(),
        evidence,
        fix: Fix::yaml(
            "let the container run unconfined, or add a rule to its profile",
            "securityContext:\n  appArmorProfile:\n    type: Unconfined\n  seLinuxOptions:\n    \
             type: spc_t\n",
        ),
        verify: "dmesg | grep -E 'apparmor=\"DENIED\"|avc: +denied'   # nothing new".into(),
        source: "apparmor.d(5), Mount Rules; mount(2), ERRORS".into(),
    }
}
