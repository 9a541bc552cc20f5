//! Serves a FUSE connection after another daemon's handshake: a successor takes over the descriptor of a dead
//! daemon.
//!
//! The FUSE library insists on answering FUSE_INIT itself, and the kernel asks it only once in the life
//! of a connection. So the request is given to the library over a socket, its answer is read from
//! there, and then the device takes the place of the socket under the number that the library has.
#![allow(unsafe_code)] // the number of a descriptor

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use fuser::{Config, Session, SessionACL};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::fuse_fs::MarkerFilesystem;
use crate::mounts::errno_of;

/// `struct fuse_in_header` and the largest `struct fuse_init_in` of linux/fuse.h.
const INIT_BYTES: usize = 40 + 64;

/// The largest answer to it: `struct fuse_out_header` and `struct fuse_init_out`.
const ANSWER_BYTES: usize = 4096;

/// A session on a device before the kernel's first request, and the FUSE_INIT request that followed, for
/// successors.
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

/// A session on the device of a dead daemon.
pub(crate) fn successor(
    device: OwnedFd,
    init: &[u8],
    filesystem: MarkerFilesystem,
    acl: SessionACL,
) -> Result<Session<MarkerFilesystem>, String> {
    let file = std::fs::File::from(device);
    handshake(&file, init, filesystem, acl).map(|(session, _)| session)
}

/// Asks the kernel to send requests again that the dead daemon had taken; where it cannot, they are
/// returned, to be given up.
pub(crate) fn resend(device: &OwnedFd) -> Result<Option<Taken>, String> {
    /// linux/fuse.h, since Linux 6.9: an out header alone, its error the code.
    const FUSE_NOTIFY_RESEND: i32 = 7;
    let device = std::fs::File::from(keep(device)?);
    match (&device).write_all(&out_header(FUSE_NOTIFY_RESEND, 0)) {
        Ok(()) => Ok(None),
        Err(error) if errno_of(&error) == Errno::EINVAL => Ok(Some(Taken(device))),
        Err(error) => Err(format!("ask for a resend: {error}")),
    }
}

/// Requests that a dead daemon had taken, which get no answer: their callers wait, and no signal ends that.
#[derive(Debug)]
pub(crate) struct Taken(std::fs::File);

impl Taken {
    /// Answers them with EIO; returns their numbers. They are older than `first`, the first request that
    /// the successor has met: the kernel numbers requests as it hands them out.
    pub(crate) fn give_up(&self, first: u64) -> Vec<u64> {
        /// Numbers are even (`FUSE_REQ_ID_STEP`).
        const STEP: u64 = 2;
        /// How many are tried, about 50 ms.
        const MOST: usize = 1 << 16;
        let older = (1..).map_while(|back| first.checked_sub(back * STEP)).take(MOST);
        let answer = |number: &u64| {
            // The kernel knows no other request by this number (ENOENT).
            (&self.0).write_all(&out_header(-libc::EIO, *number)).is_ok()
        };
        older.take_while(|number| *number > 0).filter(answer).collect()
    }
}

/// `struct fuse_out_header` with nothing behind it.
fn out_header(error: i32, unique: u64) -> [u8; 16] {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&16_u32.to_ne_bytes());
    header[4..8].copy_from_slice(&error.to_ne_bytes());
    header[8..].copy_from_slice(&unique.to_ne_bytes());
    header
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::{fs, thread};

    use propagation_model::marker::{MARKER_FILE, Marker};
    use propagation_model::plan::FuseSpec;

    use super::*;
    use crate::fuse_mount::{Options, mount_fuse};

    #[test]
    fn requests_that_cannot_be_sent_again_end_with_an_error() {
        let name = "take_over::tests::requests_that_cannot_be_sent_again_end_with_an_error";
        if !crate::own_mounts::inside(name) {
            return;
        }
        let mountpoint = Path::new("/tmp/mountpoint");
        fs::create_dir(mountpoint).expect("a mountpoint");
        let options = Options::of(&FuseSpec::default(), "test");
        let Ok(device) = mount_fuse(mountpoint, &options) else {
            assert!(fs::File::open("/dev/fuse").is_err(), "a device that opens can be mounted");
            return;
        };
        let marker = Marker { started: "t".into(), generation: 1, nonce: "n".into() };
        let filesystem = || MarkerFilesystem::new(&marker, (0, 0), Arc::default());
        let kept = keep(&device).expect("a copy");
        let (dead, init) = first(device, filesystem(), SessionACL::All).expect("a handshake");
        // A process of its own: one that waits for good keeps its descriptors, and so this connection.
        let marker_file = mountpoint.join(MARKER_FILE);
        let mut reader = Command::new("cat");
        let reader = reader.arg(&marker_file).stderr(Stdio::piped()).spawn().expect("cat");
        // The daemon takes the request, and dies.
        let mut request = vec![0; 64 << 20];
        let taken = fs::File::from(keep(&kept).expect("a copy")).read(&mut request);
        assert!(taken.expect("a request") > 40);
        drop(dead);
        let (told, numbers) = std::sync::mpsc::channel();
        let taken = Taken(fs::File::from(keep(&kept).expect("a copy")));
        let mut filesystem = filesystem();
        filesystem.tell_first(told);
        let session = successor(kept, &init, filesystem, SessionACL::All).expect("a handshake");
        thread::spawn(move || session.run());
        // Another file: who looks for the same name waits for the one that looks already.
        assert!(fs::metadata(mountpoint).is_ok(), "the successor serves");
        let lost = taken.give_up(numbers.recv().expect("the first number"));
        assert_eq!(lost.len(), 1);
        let said = reader.wait_with_output().expect("its end").stderr;
        assert!(String::from_utf8_lossy(&said).contains("Input/output error"), "{said:?}");
        assert!(fs::read(marker_file).is_ok());
    }
}
