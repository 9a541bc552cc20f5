//! A process that holds the `/dev/fuse` descriptor of a producer, so that its mount outlives its daemon.
//!
//! It is a process of its own and touches no mount: if one that reads from the mount held the descriptor
//! too, its read would keep the very connection alive that it waits for.
#![allow(unsafe_code)] // numbers of descriptors in a forked child

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use crate::child::Child;
use crate::sys::keep_only;

/// A keeper of one connection.
#[derive(Debug)]
pub(crate) struct Keeper {
    child: Child,
    /// The FUSE_INIT request that began the connection.
    init: Vec<u8>,
}

impl Keeper {
    /// Gives the descriptor to a new process; the caller has it no longer.
    pub(crate) fn start(device: OwnedFd, init: Vec<u8>) -> Result<Self, Errno> {
        use std::os::fd::AsFd;
        let child = Child::start(|pipe| {
            // SAFETY: this process uses nothing else that it was born with, and never returns.
            let kept = unsafe { keep_only([pipe.as_fd(), device.as_fd()]) };
            std::mem::forget(pipe);
            let Ok([pipe, device]) = kept else { crate::sys::exit_now(1) };
            let mut pipe = crate::pipe::Pipe::new(pipe);
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
    pub(crate) fn take_copy(&mut self) -> Result<(OwnedFd, &[u8]), Errno> {
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
