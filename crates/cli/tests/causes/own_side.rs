//! Dead mounts of a consumer's own side that lie on the node's fresh one, and those that the node has too.

use propagation_core::diagnosis::CauseId;

use super::{Case, Fixed};

/// Every process of the node that has a mount at the consumers' place can list it.
const EVERYBODY_LOOKS: &str = "for p in /proc/[0-9]*; do if grep -qF ' /mnt/dfs ' $p/mountinfo; then timeout -s KILL 2 \
                               ls $p/root/mnt/dfs > /dev/null || exit 1; fi; done";

pub(super) fn all() -> Vec<Case> {
    let hidden = |file| Case {
        // Filesystems are known by their numbers, which are those of one node.
        fixed: Some(Fixed::Kept { looks: EVERYBODY_LOOKS }),
        ..Case::new(file, CauseId::FreshMountHidden)
    };
    vec![
        Case { actors: &["app"], ..hidden("a-dead-mount-on-the-own-side") },
        Case {
            actors: &["app", "other"],
            never: &[CauseId::StackedLayers],
            ..hidden("dead-mounts-on-the-own-side")
        },
        Case { actors: &["app"], ..hidden("a-dead-mount-of-an-own-making") },
        Case { actors: &["app"], ..hidden("a-dead-mount-below-a-fresh-one") },
        Case {
            actors: &["node", "app"],
            ..Case::new("layers-of-mounts-that-are-all-dead", CauseId::StackedLayers)
        },
        Case {
            actors: &["app"],
            fix: &["a tmpfs of device "],
            not_in_fix: &["umount "],
            evidence: &["- tmpfs own"],
            ..Case::new("a-tmpfs-below-a-dead-mount", CauseId::FreshMountHidden)
        },
    ]
}
