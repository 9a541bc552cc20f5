//! Serving a FUSE connection whose handshake is somebody else's: how a successor takes over the
//! descriptor of a daemon that has died.
//!
//! The FUSE library insists on answering FUSE_INIT itself, and the kernel asks it only once in the life
//! of a connection. So the request is given to the library over a socket, its answer is read from
//! there, and then the device takes the place of the socket under the number that the library has.
#![allow(unsafe_code)] // the number of a descriptor

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use fuser::{Config, Session, SessionACL};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::fuse_fs::MarkerFilesystem;
use crate::mounts::errno_of;

/// `struct fuse_in_header` and the largest `struct fuse_init_in` of linux/fuse.h.
const INIT_BYTES: usize = 40 + 64;

/// The largest answer to it: `struct fuse_out_header` and `struct fuse_init_out`.
const ANSWER_BYTES: usize = 4096;

/// A session on a device that the kernel has not spoken to yet, and the FUSE_INIT request that it
/// sent, for successors.
pub(crate) fn first(
    device: OwnedFd,
    filesystem: MarkerFilesystem,
    acl: SessionACL,
) -> Result<(Session<MarkerFilesystem>, Vec<u8>), String> {
    let mut file = std::fs::File::from(device);
    // The kernel wants room for the largest write, or refuses to hand out anything.
    let mut request = vec![0; 256 * 1024];
    let length = file.read(&mut request).map_err(|e| format!("read FUSE_INIT: {e}"))?;
    request.truncate(length);
    let (session, answer) = handshake(&file, &request, filesystem, acl)?;
    file.write_all(&answer).map_err(|e| format!("answer FUSE_INIT: {e}"))?;
    request.truncate(INIT_BYTES);
    Ok((session, request))
}

/// A session on a device whose daemon has died. Requests that it had taken are sent again.
pub(crate) fn successor(
    device: OwnedFd,
    init: &[u8],
    filesystem: MarkerFilesystem,
    acl: SessionACL,
) -> Result<Session<MarkerFilesystem>, String> {
    let mut file = std::fs::File::from(device);
    let (session, _) = handshake(&file, init, filesystem, acl)?;
    file.write_all(&resend()).map_err(|e| format!("ask for a resend: {e}"))?;
    Ok(session)
}

/// `FUSE_NOTIFY_RESEND` (linux/fuse.h, since Linux 6.9): an out header alone, its error the code.
fn resend() -> [u8; 16] {
    const FUSE_NOTIFY_RESEND: i32 = 7;
    let mut message = [0; 16];
    message[..4].copy_from_slice(&16_u32.to_ne_bytes());
    message[4..8].copy_from_slice(&FUSE_NOTIFY_RESEND.to_ne_bytes());
    message
}

/// Lets the library answer `request`, then puts the device in the place of the socket; returns what
/// it answered.
fn handshake(
    device: &std::fs::File,
    request: &[u8],
    filesystem: MarkerFilesystem,
    acl: SessionACL,
) -> Result<(Session<MarkerFilesystem>, Vec<u8>), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
        .map_err(|errno| failed("make a socket for FUSE_INIT", &errno))?;
    let number = theirs.as_raw_fd();
    let mut ours = std::fs::File::from(ours);
    ours.write_all(request).map_err(|error| failed("pass FUSE_INIT on", &error))?;
    let session = Session::from_fd(filesystem, theirs, acl, Config::default())
        .map_err(|error| failed("answer FUSE_INIT", &error))?;
    let mut answer = vec![0; ANSWER_BYTES];
    let length = ours.read(&mut answer).map_err(|error| failed("take the answer", &error))?;
    answer.truncate(length);
    // SAFETY: the session that owns the number goes on with the device, and nothing else drops it.
    let replaced = unsafe { crate::sys::duplicate_onto(device.as_fd(), number) }
        .map_err(|errno| failed("put the device in place", &errno))?;
    // The session owns that number.
    std::mem::forget(replaced);
    Ok((session, answer))
}

/// Another handle on a device, for a keeper.
pub(crate) fn keep(device: &OwnedFd) -> Result<OwnedFd, String> {
    device.try_clone().map_err(|error| crate::failure::errno_text(errno_of(&error)))
}
