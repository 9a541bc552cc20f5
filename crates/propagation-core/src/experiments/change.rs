//! The changes, each defined once: what it can affect, its cost, the causes that it removes, its words and its
//! text, and its effect on a plan.

mod repairs;

use super::alter;
use super::text;
use crate::diagnosis::CauseId;
use crate::plan::{Action, BridgeState, Covering, Names, Plan, Propagation, Repair, Role, Stale};
use crate::plan::{Volume, WorkloadSpec};
use crate::report::{Change, Cost, What};

/// Every change, in the order in which equals are tried and named.
pub(super) const ALL: [What; 40] = [
    What::HostToContainer,
    What::WritableVolume,
    What::WritableMount,
    What::VolumeBridge,
    What::AllowOther,
    What::UserAllowOther,
    What::CoveringShared,
    What::RuntimeOnNode,
    What::EndHungDaemon,
    What::NoSubPath,
    What::VolumeAncestor,
    What::Bidirectional,
    What::Privileged,
    What::NoUserNamespace,
    What::UnmountStale,
    What::StackOnStale,
    What::StartBeforeMount,
    What::StartAfterMount,
    What::DirectoryAtBridge,
    What::WritableNode,
    What::HostTools,
    What::Root,
    What::Repair(Repair::Wait),
    What::Continue,
    What::Abort,
    What::Repair(Repair::RebindHost),
    What::Repair(Repair::RebindHostDeduplicated),
    What::Repair(Repair::RebindConsumer),
    What::Repair(Repair::ReconnectConsumer),
    What::Repair(Repair::HandOver),
    What::Repair(Repair::Remount),
    What::Repair(Repair::MountOnTop),
    What::Repair(Repair::LazyUnmountMount),
    What::Repair(Repair::UnmountMount),
    What::Repair(Repair::LivenessProbe),
    What::Repair(Repair::RestartConsumer),
    What::Repair(Repair::RecreateConsumer),
    What::Restart,
    What::Recreate,
    What::StartAgain,
];

/// What a change can affect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// Consumers: all at once, and each by itself.
    Consumers,
    /// Producers.
    Producers,
    /// Producers and consumers.
    Both,
    /// The node, or all at once.
    Node,
}

impl Whom {
    pub(super) fn is(self, role: Role) -> bool {
        match self {
            Self::Consumers => role == Role::Consumer,
            Self::Producers => role == Role::Producer,
            Self::Both => role != Role::Control,
            Self::Node => false,
        }
    }
}

/// Effect of a change on a plan.
pub(super) enum Alteration {
    /// Each affected workload is altered.
    Each(fn(&mut WorkloadSpec)),
    /// The plan is altered.
    Plan(fn(&mut Plan)),
    /// The place of starts among the steps is altered.
    Order(alter::When),
    /// A step is appended for the affected workloads.
    Step(Action),
    /// As `Step`, where the action itself names the workloads.
    StepOn(fn(Names) -> Action),
}

/// Definition of a change.
pub(super) struct Definition {
    pub(super) whom: Whom,
    pub(super) cost: Cost,
    /// Causes that the change removes.
    pub(super) removes: &'static [CauseId],
    /// The change as an order; the argument names the affected workloads.
    pub(super) words: fn(&str) -> String,
    /// A command or a fragment of a manifest.
    pub(super) text: fn(&Change, &Plan) -> text::Text,
    pub(super) alteration: Alteration,
}

impl Definition {
    /// Whether it is a change of the set-up.
    pub(super) fn for_good(&self) -> bool {
        !matches!(self.alteration, Alteration::Step(_) | Alteration::StepOn(_))
    }
}

/// The definition of a change.
pub(super) fn definition(what: What) -> Definition {
    match what {
        What::HostToContainer => Definition {
            whom: Whom::Consumers,
            cost: Cost::Manifest,
            removes: &[
                CauseId::ConsumerModeNone,
                CauseId::ConsumerFrozenCopy,
                CauseId::ConsumerPinsMount,
                CauseId::PropagationNotApplied,
            ],
            words: |who| format!("Change `mountPropagation` of {who} to HostToContainer"),
            text: text::volume,
            alteration: Alteration::Each(|spec| {
                spec.propagation = Propagation::HostToContainer;
                for volume in &mut spec.volumes {
                    volume.propagation = Propagation::HostToContainer;
                }
            }),
        },
        What::VolumeBridge => Definition {
            whom: Whom::Consumers,
            cost: Cost::Manifest,
            removes: &[
                CauseId::VolumeIsMountpoint,
                CauseId::FileVolumePinsMount,
                CauseId::SubPathPinsMount,
                CauseId::StalePublishPath,
                CauseId::BindNotRecursive,
                CauseId::StaleSourceBlocksStart,
                CauseId::ConsumerNotConnected,
                CauseId::SubPathOnDeadDentry,
            ],
            words: |who| {
                format!("Change `volume` of {who} to the directory above with HostToContainer")
            },
            text: text::volume,
            alteration: Alteration::Each(|spec| {
                if spec.volume != Volume::Bridge {
                    spec.volume = Volume::Bridge;
                    spec.propagation = Propagation::HostToContainer;
                    spec.sub_path = None;
                }
            }),
        },
        What::VolumeAncestor => Definition {
            whom: Whom::Consumers,
            cost: Cost::Manifest,
            removes: &[CauseId::ConsumerNotConnected],
            words: |who| {
                format!(
                    "Change `volume` of {who} to the directory above the bridge with HostToContainer"
                )
            },
            text: text::volume,
            alteration: Alteration::Each(|spec| {
                if spec.volume != Volume::Ancestor {
                    spec.volume = Volume::Ancestor;
                    spec.propagation = Propagation::HostToContainer;
                    spec.sub_path = None;
                }
            }),
        },
        What::NoSubPath => Definition {
            whom: Whom::Consumers,
            cost: Cost::Manifest,
            removes: &[
                CauseId::SubPathOnDeadDentry,
                CauseId::SubPathPinsMount,
                CauseId::VolumeIsMountpoint,
            ],
            words: |who| format!("Remove `subPath` of {who}"),
            text: text::volume,
            alteration: Alteration::Each(|spec| spec.sub_path = None),
        },
        What::WritableVolume => Definition {
            whom: Whom::Consumers,
            cost: Cost::Manifest,
            removes: &[CauseId::MountReadOnly],
            words: |who| format!("Leave out `readOnly: true` of {who}"),
            text: text::writable_volume,
            alteration: Alteration::Each(|spec| {
                (spec.bind.read_only, spec.bind.recursive_read_only) = (false, false);
            }),
        },
        What::WritableMount => Definition {
            whom: Whom::Node,
            cost: Cost::Manifest,
            removes: &[CauseId::MountReadOnly],
            words: |_| "Mount without `ro`".to_owned(),
            text: text::writable_mount,
            alteration: Alteration::Plan(alter::writable),
        },
        What::StartBeforeMount => Definition {
            whom: Whom::Consumers,
            cost: Cost::Manifest,
            removes: &[],
            words: |who| format!("Start {who} before the producer mounts"),
            text: text::none,
            alteration: Alteration::Order(alter::When::BeforeMount),
        },
        What::StartAfterMount => Definition {
            whom: Whom::Consumers,
            cost: Cost::Manifest,
            removes: &[
                CauseId::NotYetServed,
                CauseId::SubPathBeforeMount,
                CauseId::SourceMadeAsDirectory,
            ],
            words: |who| format!("Start {who} after the producer has mounted"),
            text: text::none,
            alteration: Alteration::Order(alter::When::AfterMount),
        },
        What::Bidirectional => Definition {
            whom: Whom::Producers,
            cost: Cost::Privilege,
            removes: &[CauseId::ProducerNotShared],
            words: |who| {
                format!(
                    "Change `mountPropagation` of {who} to Bidirectional, and make it privileged"
                )
            },
            text: text::producer,
            alteration: Alteration::Each(|spec| {
                spec.propagation = Propagation::Bidirectional;
                spec.privileged = None;
            }),
        },
        What::Privileged => Definition {
            whom: Whom::Both,
            cost: Cost::Privilege,
            removes: &[CauseId::CapabilityMissing, CauseId::LsmDenies, CauseId::FuseDeviceUnusable],
            words: |who| format!("Make {who} privileged"),
            text: text::privileged,
            alteration: Alteration::Each(|spec| {
                if !spec.privileged() && !spec.host {
                    spec.privileged = Some(true);
                }
            }),
        },
        What::Root => Definition {
            whom: Whom::Both,
            cost: Cost::Privilege,
            removes: &[
                CauseId::AllowOtherMissing,
                CauseId::UserAllowOtherMissing,
                CauseId::Fusermount3Absent,
            ],
            words: |who| format!("Run {who} as root"),
            text: text::root,
            alteration: Alteration::Each(|spec| spec.uid = 0),
        },
        What::NoUserNamespace => Definition {
            whom: Whom::Both,
            cost: Cost::Privilege,
            removes: &[CauseId::UserNamespaceBoundary],
            words: |who| format!("Remove `hostUsers: false` of {who}"),
            text: text::host_users,
            alteration: Alteration::Each(|spec| spec.user_namespace = false),
        },
        What::AllowOther => Definition {
            whom: Whom::Node,
            cost: Cost::Manifest,
            removes: &[CauseId::AllowOtherMissing, CauseId::UserAllowOtherMissing],
            words: |_| "Mount with `allow_other`".to_owned(),
            text: text::allow_other,
            alteration: Alteration::Plan(alter::allow_other),
        },
        What::UserAllowOther => Definition {
            whom: Whom::Node,
            cost: Cost::Manifest,
            removes: &[CauseId::UserAllowOtherMissing],
            words: |_| "Add `user_allow_other` to the fuse.conf that fusermount3 reads".to_owned(),
            text: text::user_allow_other,
            alteration: Alteration::Plan(alter::user_allow_other),
        },
        What::StackOnStale => Definition {
            whom: Whom::Node,
            cost: Cost::Manifest,
            removes: &[CauseId::CleanUnmountWhereStackNeeded],
            words: |_| "Let the producer mount on top of a dead mount".to_owned(),
            text: text::none,
            alteration: Alteration::Plan(|plan| alter::stale(plan, Stale::Stack)),
        },
        What::UnmountStale => Definition {
            whom: Whom::Node,
            cost: Cost::Manifest,
            removes: &[CauseId::StackedLayers, CauseId::DaemonDead],
            words: |_| "Let the producer take a dead mount off before it mounts".to_owned(),
            text: text::unmount_first,
            alteration: Alteration::Plan(|plan| alter::stale(plan, Stale::Unmount)),
        },
        What::EndHungDaemon => Definition {
            whom: Whom::Node,
            cost: Cost::Manifest,
            removes: &[CauseId::DaemonStopped],
            words: |_| {
                "Give the producer a liveness probe that ends a daemon which does not answer"
                    .to_owned()
            },
            text: text::producer_probe,
            alteration: Alteration::Plan(alter::end_hung_daemon),
        },
        What::CoveringShared => Definition {
            whom: Whom::Node,
            cost: Cost::Node,
            removes: &[CauseId::CoveringPrivate, CauseId::CoveringSlave],
            words: |_| "Make the mount that covers the bridge shared".to_owned(),
            text: text::make_shared,
            alteration: Alteration::Plan(|plan| {
                if plan.node.covering != Covering::Tmpfs {
                    plan.node.covering = Covering::Shared;
                }
                if let Some(covering) = plan.node.mounts.last_mut() {
                    covering.propagation = Covering::Shared;
                }
            }),
        },
        What::RuntimeOnNode => Definition {
            whom: Whom::Node,
            cost: Cost::Node,
            removes: &[CauseId::RuntimeOwnNamespace, CauseId::UserNamespaceBoundary],
            words: |_| "Run the container runtime in the node's mount namespace".to_owned(),
            text: text::runtime_on_node,
            alteration: Alteration::Plan(|plan| {
                plan.node.runtime.namespace = crate::plan::RuntimeNamespace::Host;
                plan.node.runtime.user_namespace = false;
            }),
        },
        What::HostTools => Definition {
            whom: Whom::Node,
            cost: Cost::Node,
            removes: &[CauseId::Fusermount3Absent],
            words: |_| "Install fuse3, which has fusermount3".to_owned(),
            text: text::install,
            alteration: Alteration::Plan(|plan| plan.node.without_host_tools = false),
        },
        What::WritableNode => Definition {
            whom: Whom::Node,
            cost: Cost::Node,
            removes: &[CauseId::BridgeUnusable],
            words: |_| "Put the bridge on a filesystem that is writable".to_owned(),
            text: text::none,
            alteration: Alteration::Plan(|plan| plan.node.read_only = false),
        },
        What::DirectoryAtBridge => Definition {
            whom: Whom::Node,
            cost: Cost::Node,
            removes: &[CauseId::BridgeUnusable],
            words: |_| "Make the bridge a directory".to_owned(),
            text: text::move_away,
            alteration: Alteration::Plan(|plan| {
                if matches!(plan.node.bridge, BridgeState::File | BridgeState::Symlink) {
                    plan.node.bridge = BridgeState::Directory;
                }
            }),
        },
        What::Repair(repair) => repairs::definition(repair),
        What::Restart => Definition {
            whom: Whom::Producers,
            cost: Cost::Restart,
            removes: OF_NODE,
            words: |who| format!("Restart the container of {who}"),
            text: text::restart,
            alteration: Alteration::StepOn(Action::Restart),
        },
        What::Recreate => Definition {
            whom: Whom::Producers,
            cost: Cost::Recreate,
            removes: OF_NODE,
            words: |who| format!("Delete the pod of {who}, which is made again"),
            text: text::recreate,
            alteration: Alteration::StepOn(Action::Recreate),
        },
        What::StartAgain => Definition {
            whom: Whom::Node,
            cost: Cost::Recreate,
            removes: &[CauseId::NotYetServed],
            words: |_| "Start again whoever does not run".to_owned(),
            text: text::none,
            alteration: Alteration::StepOn(Action::Start),
        },
        What::Continue => Definition {
            whom: Whom::Producers,
            cost: Cost::Command,
            removes: &[CauseId::DaemonStopped],
            words: |who| format!("Continue the daemon of {who}"),
            text: text::resume,
            alteration: Alteration::Step(Action::Fault(crate::plan::Fault::Continue)),
        },
        What::Abort => Definition {
            whom: Whom::Producers,
            cost: Cost::Command,
            removes: &[CauseId::DaemonStopped],
            words: |_| "Abort the FUSE connection".to_owned(),
            text: text::none,
            alteration: Alteration::Step(Action::Fault(crate::plan::Fault::Abort)),
        },
    }
}

/// Causes that are over once a producer mounts anew.
const OF_NODE: &[CauseId] = &[
    CauseId::DaemonDead,
    CauseId::DaemonDiesWithParent,
    CauseId::DaemonOutOfMemory,
    CauseId::DaemonStopped,
    CauseId::DaemonKilledKeeperHolds,
    CauseId::DaemonAnswersErrors,
    CauseId::MountOutlivesDaemon,
    CauseId::MountGone,
    CauseId::UnmountBusy,
];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;

    #[test]
    fn reconnecting_moves_no_volume() {
        let removes = definition(What::Repair(Repair::ReconnectConsumer)).removes;
        assert!(removes.contains(&CauseId::ConsumerModeNone));
        assert!(!removes.contains(&CauseId::VolumeIsMountpoint));
        assert!(!removes.contains(&CauseId::SubPathPinsMount));
    }

    /// The kind after one, in the order of the type; the repairs are the last.
    fn next(what: What) -> Option<What> {
        let next = match what {
            What::HostToContainer => What::VolumeBridge,
            What::VolumeBridge => What::VolumeAncestor,
            What::VolumeAncestor => What::NoSubPath,
            What::NoSubPath => What::WritableVolume,
            What::WritableVolume => What::WritableMount,
            What::WritableMount => What::StartBeforeMount,
            What::StartBeforeMount => What::StartAfterMount,
            What::StartAfterMount => What::Bidirectional,
            What::Bidirectional => What::Privileged,
            What::Privileged => What::Root,
            What::Root => What::NoUserNamespace,
            What::NoUserNamespace => What::AllowOther,
            What::AllowOther => What::UserAllowOther,
            What::UserAllowOther => What::StackOnStale,
            What::StackOnStale => What::UnmountStale,
            What::UnmountStale => What::EndHungDaemon,
            What::EndHungDaemon => What::CoveringShared,
            What::CoveringShared => What::RuntimeOnNode,
            What::RuntimeOnNode => What::HostTools,
            What::HostTools => What::WritableNode,
            What::WritableNode => What::DirectoryAtBridge,
            What::DirectoryAtBridge => What::Restart,
            What::Restart => What::Recreate,
            What::Recreate => What::StartAgain,
            What::StartAgain => What::Continue,
            What::Continue => What::Abort,
            What::Abort => What::Repair(Repair::ALL[0]),
            What::Repair(repair) => {
                let at = Repair::ALL.iter().position(|one| *one == repair)?;
                What::Repair(*Repair::ALL.get(at + 1)?)
            }
        };
        Some(next)
    }

    #[test]
    fn every_kind_of_change_is_tried() {
        let kinds = std::iter::successors(Some(What::HostToContainer), |what| next(*what));
        let kinds: HashSet<What> = kinds.collect();
        assert_eq!(kinds, HashSet::from(ALL));
    }

    #[test]
    fn every_change_is_listed_once_and_in_words_of_its_own() {
        let (mut words, mut listed) = (BTreeSet::new(), HashSet::new());
        for what in ALL {
            assert!(listed.insert(what), "{what:?}");
            assert!(words.insert((definition(what).words)("someone")), "{what:?}");
        }
    }
}
