//! Who is denied what, and by whom: capabilities, security modules, sources, the daemon.

use super::*;

#[test]
fn the_errno_tells_a_security_module_from_a_capability() {
    for (said, expected) in [
        ("fusermount3: mount failed: Permission denied", CauseId::LsmDenies),
        ("mount(2) of fuse.x on /mnt/dfs: Permission denied (EACCES)", CauseId::LsmDenies),
        (
            "mount(2) of fuse.x on /mnt/dfs: Operation not permitted (EPERM)",
            CauseId::CapabilityMissing,
        ),
        ("run fusermount3: No such file or directory (ENOENT)", CauseId::Fusermount3Absent),
        (
            "fusermount3: option allow_other only allowed if 'user_allow_other' is set in \
             /etc/fuse.conf",
            CauseId::UserAllowOtherMissing,
        ),
    ] {
        let mut report = up_to("producer");
        report.timeline.clear();
        fail(&mut report, "producer", "mounted", said);
        assert_eq!(ids(&report), [expected], "{said}");
    }
}

#[test]
fn the_errno_tells_a_dead_source_from_a_denied_one() {
    for (errno, expected) in [
        ("transport endpoint is not connected", CauseId::StaleSourceBlocksStart),
        ("permission denied", CauseId::LsmDenies),
        ("operation not permitted", CauseId::CapabilityMissing),
    ] {
        let mut report = in_order();
        let said = format!("failed to stat {FUSE_POINT:?}: stat {FUSE_POINT}: {errno}");
        fail(&mut report, "stale_mount", "new_consumer_starts", &said);
        assert_eq!(ids(&report), [expected], "{errno}");
    }
}

#[test]
fn a_dead_source_explains_why_the_producer_does_not_come_back() {
    let mut report = up_to("stale_mount");
    let said = format!("failed to stat {FUSE_POINT:?}: transport endpoint is not connected");
    fail(&mut report, "stale_mount", "producer_restarts", &said);
    assert_eq!(ids(&report), [CauseId::StaleSourceBlocksStart]);
    assert_eq!(ids(&up_to("stale_mount")), [CauseId::DaemonDead]);
}

#[test]
fn access_that_is_denied_in_spite_of_allow_other_is_somebody_elses_doing() {
    let mut report = in_order();
    see(&mut report, |seen| {
        if seen.uid == 1000 && !is_node(seen) {
            seen.outcome = Outcome::errno(Errno::EACCES, "open");
        }
    });
    assert_eq!(ids(&report), [CauseId::LsmDenies]);
}

/// A run in order with these answers of SELinux's policy for a domain.
fn under_selinux(what: &[FuseNeed], own: bool) -> Report {
    let mut report = in_order();
    let (domain, boolean) = ("app_t".to_owned(), Some("app_use_fusefs".to_owned()));
    let denied = DomainDenied { domain, own, what: what.to_vec(), boolean };
    let facts = report.environment.as_mut().expect("facts of the node");
    facts.confinement = vec![Confinement::SelinuxEnforcing, Confinement::SelinuxDenies(denied)];
    report
}

#[test]
fn a_denial_that_is_the_policys_names_selinux_and_its_boolean() {
    let consumers_denied = |own: bool| {
        let mut report = under_selinux(&[FuseNeed::Files], own);
        see(&mut report, |seen| seen.outcome = Outcome::errno(Errno::EACCES, "open"));
        report
    };
    let causes = explain(&consumers_denied(true));
    assert_eq!(causes[0].id, CauseId::LsmDenies, "the node is in the same domain");
    assert!(causes[0].title.contains("domain app_t use files"), "{}", causes[0].title);
    assert_eq!(causes[0].fix.text, "setsebool -P app_use_fusefs on");
    // Programs of a simulated node are in this program's domain, whatever that of containers may.
    assert_eq!(ids(&consumers_denied(false)), [CauseId::DaemonDenies]);
    let mut cluster = consumers_denied(false);
    cluster.backend = "k8s".to_owned();
    cluster.timeline.retain(|seen| !is_node(seen));
    let causes = explain(&cluster);
    assert_eq!(
        (&causes[0].id, causes[0].fix.text.as_str()),
        (&CauseId::LsmDenies, "setsebool -P app_use_fusefs on")
    );
}

#[test]
fn a_producer_is_told_what_its_domain_may_not() {
    let said = |what, words: &str| {
        let mut report = under_selinux(&[what], true);
        report.timeline.clear();
        report.phases.truncate(2);
        fail(&mut report, "producer", "mounted", words);
        explain(&report).remove(0)
    };
    let mount = said(FuseNeed::Mount, "mount(2) of fuse.x on /mnt/dfs: Permission denied (EACCES)");
    assert!(mount.title.contains("does not let the domain app_t mount"), "{}", mount.title);
    assert!(mount.fix.text.starts_with("runcon"), "{}", mount.fix.text);
    let device = said(FuseNeed::Device, "open /dev/fuse: Permission denied (EACCES)");
    assert!(
        device.title.contains("SELinux denies /dev/fuse to the domain app_t"),
        "{}",
        device.title
    );
}
