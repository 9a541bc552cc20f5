//! A process that holds the `/dev/fuse` descriptor of a producer, so that its mount outlives its daemon.
//!
//! It is a process of its own and touches no mount: if one that reads from the mount held the descriptor
//! too, its read would keep the very connection alive that it waits for.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use crate::child::Child;
use crate::sys::{duplicate_above, duplicate_onto};

/// A keeper of one connection.
#[derive(Debug)]
pub(super) struct Keeper {
    child: Child,
    /// The FUSE_INIT request that began the connection.
    init: Vec<u8>,
}

impl Keeper {
    /// Gives the descriptor to a new process; the caller has it no longer.
    pub(super) fn start(device: OwnedFd, init: Vec<u8>) -> Result<Self, Errno> {
        use std::os::fd::AsFd;
        const DEVICE: i32 = 4;
        let child = Child::start(|pipe| {
            let keep = || -> Result<(crate::pipe::Pipe, OwnedFd), Errno> {
                let device = duplicate_above(device.as_fd(), 64)?;
                let pipe = duplicate_above(pipe.as_fd(), 64)?;
                let pipe = duplicate_onto(pipe.as_fd(), DEVICE - 1)?;
                let device = duplicate_onto(device.as_fd(), DEVICE)?;
                crate::sys::close_from(DEVICE + 1);
                Ok((crate::pipe::Pipe::new(pipe), device))
            };
            let Ok((mut pipe, device)) = keep() else { crate::sys::exit_now(1) };
            while let Ok(Some(true)) = pipe.receive::<bool>() {
                let Ok(copy) = device.try_clone() else { break };
                if pipe.send_descriptors(&[copy]).is_err() || pipe.send(&true).is_err() {
                    break;
                }
            }
            // Whatever the parent had is closed already.
            crate::sys::exit_now(0)
        })?;
        Ok(Self { child, init })
    }

    /// Another handle on the descriptor, and the FUSE_INIT request.
    pub(super) fn take_copy(&mut self) -> Result<(OwnedFd, &[u8]), Errno> {
        self.child.pipe.send(&true)?;
        self.child.pipe.receive::<bool>()?;
        let device = self.child.pipe.take_descriptor().ok_or(Errno::EBADF)?;
        Ok((device, &self.init))
    }
}

impl Drop for Keeper {
    /// The connection ends with the last descriptor.
    fn drop(&mut self) {
        self.child.give_up();
    }
}
