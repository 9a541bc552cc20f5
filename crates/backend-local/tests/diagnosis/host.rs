//! The mount namespace that the tests run in.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::Uid;

/// A directory of the namespace's own, on which the devices lie.
const SCRATCH: &str = "/mnt";

/// Moves the process, which has one thread yet, into a mount namespace of its own, in which every
/// user may open `/dev/fuse`.
///
/// # Errors
/// With the reason, when it is not root or may not.
pub(crate) fn enter() -> Result<(), String> {
    if !Uid::effective().is_root() {
        return Err("only root can make the host that it needs".into());
    }
    let step = |what: &'static str| move |errno: nix::Error| format!("{what}: {}", errno.desc());
    unshare(CloneFlags::CLONE_NEWNS).map_err(step("make a mount namespace"))?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .map_err(step("make / private"))?;
    mount(Some("scratch"), SCRATCH, Some("tmpfs"), MsFlags::empty(), nothing)
        .map_err(step("mount a tmpfs"))?;
    let device = Path::new(SCRATCH).join("fuse");
    node(&device, 0o666).map_err(step("make a device"))?;
    bind(&device).map_err(step("bind it over /dev/fuse"))
}

fn node(path: &Path, mode: u32) -> nix::Result<()> {
    let mode = Mode::from_bits_truncate(mode);
    mknod(path, SFlag::S_IFCHR, Mode::empty(), makedev(10, 229))?;
    // The umask does not count here.
    nix::sys::stat::fchmodat(
        nix::fcntl::AT_FDCWD,
        path,
        mode,
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )
}

fn bind(device: &Path) -> nix::Result<()> {
    let nothing = None::<&str>;
    mount(Some(device), "/dev/fuse", nothing, MsFlags::MS_BIND, nothing)
}

/// What lies at `/dev/fuse` during one test.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A device with another number, which no driver is behind.
    NoDriver,
    /// A device for everybody, on a mount with `nodev`.
    OnNodev,
}

/// Something over `/dev/fuse`, until it is dropped.
#[derive(Debug)]
pub(crate) struct Device {
    path: PathBuf,
}

impl Device {
    /// Puts it there.
    pub(crate) fn put(kind: Kind) -> Result<Self, Failed> {
        let path = Path::new(SCRATCH).join(format!("{kind:?}"));
        match kind {
            Kind::OnNodev => node(&path, 0o666)?,
            Kind::NoDriver => {
                mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(10, 255))?;
            }
        }
        bind(&path)?;
        if matches!(kind, Kind::OnNodev) {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NODEV;
            mount(None::<&str>, "/dev/fuse", None::<&str>, flags, None::<&str>)?;
        }
        Ok(Self { path })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // The namespace ends with the tests anyway.
        let _ = umount2("/dev/fuse", MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
    }
}
