//! Looks that were given up. A process waits in the kernel for as long as the daemon that has read its request does
//! not answer, and no signal ends it; so no other look of the kind is taken beside it.

use std::os::fd::AsFd;

use mountinfo::MountPath;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use propagation_model::observation::Access;

use crate::child::Child;
use crate::mounts::{Proc, parse};

/// The looks that still hang.
#[derive(Debug, Default)]
pub(crate) struct Stuck(Vec<One>);

#[derive(Debug)]
struct One {
    child: Child,
    /// The device of the mount that it looks at.
    device: String,
    access: Access,
}

impl Stuck {
    /// Kills a child that looks, and remembers it until it has ended.
    pub(crate) fn give_up(&mut self, proc: &Proc, child: Child, mount_point: &str, access: Access) {
        // Of the child: it is in another mount namespace.
        let device = device_of(proc, &child.pid.to_string(), mount_point);
        child.give_up();
        self.0.extend(device.map(|device| One { child, device, access }));
    }

    /// Forgets those that have ended.
    pub(crate) fn forget_ended(&mut self) {
        self.0.retain(|one| !has_ended(&one.child, PollTimeout::ZERO));
    }

    /// In a child that is about to look: waits until no look of the kind hangs at the mount any more, which may be
    /// for ever.
    pub(crate) fn wait(&self, proc: &Proc, mount_point: &str, access: Access) {
        if self.0.is_empty() {
            return;
        }
        let Some(device) = device_of(proc, "self", mount_point) else { return };
        let alike = self.0.iter().filter(|one| one.device == device && one.access == access);
        alike.for_each(|one| while !has_ended(&one.child, PollTimeout::NONE) {});
    }
}

fn device_of(proc: &Proc, process: &str, mount_point: &str) -> Option<String> {
    let table = parse(&proc.read(&format!("{process}/mountinfo")).ok()?).ok()?;
    table.at(&MountPath::from(mount_point)).map(|mount| mount.device.to_string())
}

/// Whether a child and all that it has started have ended: they have copies of its end of the pipe.
fn has_ended(child: &Child, within: PollTimeout) -> bool {
    let mut descriptors = [PollFd::new(child.pipe.as_fd(), PollFlags::empty())];
    poll(&mut descriptors, within).is_ok_and(|ready| ready > 0)
}
