//! The repairs as changes: each is done once, after what the plan does.

use super::{Alteration, Definition, OF_NODE, Whom};
use crate::diagnosis::CauseId;
use crate::experiments::text;
use crate::plan::{Action, Repair};
use crate::report::Cost;

/// The change that does a repair once.
pub(super) fn definition(repair: Repair) -> Definition {
    let of_consumers: &[CauseId] = &[
        CauseId::VolumeIsMountpoint,
        CauseId::FileVolumePinsMount,
        CauseId::SubPathPinsMount,
        CauseId::StalePublishPath,
        CauseId::BindNotRecursive,
        CauseId::ConsumerFrozenCopy,
        CauseId::ConsumerModeNone,
        CauseId::CleanUnmountWhereStackNeeded,
        CauseId::FreshMountHidden,
        CauseId::ConsumerDied,
        CauseId::SubPathOnDeadDentry,
        CauseId::MountedButWrongContent,
    ];
    let (whom, cost, removes): (_, _, &[CauseId]) = match repair {
        Repair::Wait => (Whom::Node, Cost::None, &[CauseId::NotYetServed]),
        Repair::RebindHost | Repair::RebindHostDeduplicated => {
            (Whom::Node, Cost::Command, &[CauseId::CleanUnmountWhereStackNeeded])
        }
        Repair::RebindConsumer => (Whom::Consumers, Cost::Command, of_consumers),
        // Which connects a private volume to the node's mount, and moves no volume elsewhere.
        Repair::ReconnectConsumer => (
            Whom::Consumers,
            Cost::Command,
            &[CauseId::ConsumerModeNone, CauseId::ConsumerFrozenCopy, CauseId::ConsumerPinsMount],
        ),
        Repair::HandOver => (
            Whom::Producers,
            Cost::Command,
            &[CauseId::DaemonKilledKeeperHolds, CauseId::DaemonDead],
        ),
        Repair::UnmountMount | Repair::LazyUnmountMount | Repair::MountOnTop | Repair::Remount => {
            (Whom::Producers, Cost::Restart, OF_NODE)
        }
        Repair::LivenessProbe | Repair::RestartConsumer => {
            (Whom::Consumers, Cost::Restart, of_consumers)
        }
        Repair::RecreateConsumer => (Whom::Consumers, Cost::Recreate, of_consumers),
    };
    let words: fn(&str) -> String = match repair {
        Repair::Wait => |_| "Wait".to_owned(),
        Repair::UnmountMount => |who| format!("Unmount the dead mount, then restart {who}"),
        Repair::LazyUnmountMount => {
            |who| format!("Unmount the dead mount lazily, then restart {who}")
        }
        Repair::MountOnTop => |who| format!("Restart {who}, which mounts on top of what is there"),
        Repair::Remount => |who| format!("Restart {who}"),
        Repair::RebindHost => |_| "Bind the fresh mount over itself on the node".to_owned(),
        Repair::RebindHostDeduplicated => {
            |_| "Bind the fresh mount on the node in place of the old layers".to_owned()
        }
        Repair::RebindConsumer => {
            |who| format!("Bind the fresh mount inside the mount namespace of {who}")
        }
        Repair::ReconnectConsumer => {
            |who| format!("Make the volume of {who} a slave of the node's mount, while it runs")
        }
        Repair::HandOver => |who| format!("Start a successor of {who} on the kept descriptor"),
        Repair::LivenessProbe => {
            |who| format!("Restart the containers of {who} whose liveness probe fails")
        }
        Repair::RestartConsumer => |who| format!("Restart the containers of {who}"),
        Repair::RecreateConsumer => |who| format!("Delete the pods of {who}, which are made again"),
    };
    Definition {
        whom,
        cost,
        removes,
        words,
        text: text::repair,
        alteration: Alteration::Step(Action::Repair(repair)),
    }
}
