//! Mount namespaces, and the user namespaces that own them.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::mounts::{Proc, errno_of};

/// A mount namespace, and its user namespace where that is not the node's.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) mount: OwnedFd,
    pub(crate) user: Option<OwnedFd>,
}

impl View {
    /// The calling process's own mount namespace, owned by the node's user namespace.
    pub(crate) fn current(proc: &Proc) -> Result<Self, Errno> {
        Ok(Self { mount: proc.of_thread("ns/mnt")?, user: None })
    }

    /// The calling process's own mount and user namespace.
    pub(crate) fn current_with_user(proc: &Proc) -> Result<Self, Errno> {
        Ok(Self { mount: proc.of_thread("ns/mnt")?, user: Some(proc.of_thread("ns/user")?) })
    }

    /// Another handle on the same namespaces.
    pub(crate) fn share(&self) -> Result<Self, Errno> {
        let share = |fd: &OwnedFd| fd.try_clone().map_err(|error| errno_of(&error));
        Ok(Self { mount: share(&self.mount)?, user: self.user.as_ref().map(share).transpose()? })
    }

    /// Enters the namespaces. A process that has entered a user namespace cannot go back.
    pub(crate) fn enter(&self) -> Result<(), Errno> {
        if let Some(user) = &self.user {
            setns(user.as_fd(), CloneFlags::CLONE_NEWUSER)?;
        }
        self.enter_mounts()
    }

    /// Enters the mount namespace alone, with the rights of the node.
    pub(crate) fn enter_mounts(&self) -> Result<(), Errno> {
        setns(self.mount.as_fd(), CloneFlags::CLONE_NEWNS)
    }

    /// Its descriptors, to be sent to another process.
    pub(crate) fn into_descriptors(self) -> Vec<OwnedFd> {
        std::iter::once(self.mount).chain(self.user).collect()
    }
}
