//! What somebody did while it ran: the cause names the act, and the fix brings everybody back whom it concerned.

use propagation_core::diagnosis::CauseId;

use super::{Case, Fixed};

pub(super) fn all() -> Vec<Case> {
    of_fixes()
}

/// Fixes that can be carried out as they are printed.
fn of_fixes() -> Vec<Case> {
    use CauseId::StaleSourceBlocksStart;
    use CauseId::{AllowOtherMissing, BridgeUnusable, ConsumerFrozenCopy, DaemonDead};
    vec![
        Case {
            fixed: Some(Fixed::Yaml(
                "  - start: [d, app]\n    expect: {app: ok}\n  - fault: kill\n  - repair: remount\n    expect: {app: ok}\n",
            )),
            ..Case::new("a-private-volume-that-is-read-only-as-a-whole", ConsumerFrozenCopy)
        },
        Case {
            after: Some((DaemonDead, "kubectl delete pod app", "kubectl exec app")),
            ..Case::new("a-start-on-what-is-dead", StaleSourceBlocksStart)
        },
        Case {
            fix: &["allow_other: true"],
            not_in_fix: &["fuse_conf", "user_allow_other"],
            ..Case::new("a-daemon-of-the-node-for-its-owner-only", AllowOtherMissing)
        },
        Case {
            status: 1,
            fix: &["name a bridge on a writable filesystem"],
            ..Case::new("a-node-that-is-read-only", BridgeUnusable)
        },
    ]
}
