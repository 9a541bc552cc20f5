//! Reading the facts of a node. Changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;
use nix::sys::utsname::uname;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Uid;
use propagation_model::confinement::Confinement;
use propagation_model::facts::{FuseConf, FuseDevice, HostFacts, PathState};
use propagation_protocol::Reply;

use crate::failure::reported;
use crate::fuse_mount::FUSERMOUNT3;
use crate::mounts::{Proc, covering, errno_of};
use crate::sys::now_ns;

/// Facts of the node that the calling process sees, for a bridge at `bridge`.
///
/// Looks at the bridge path itself, which may be a dead or hung mount: call it in a child that can
/// be given up.
pub fn read(proc: &Proc, bridge: &str) -> HostFacts {
    let names = uname().ok();
    let name = |pick: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        names.as_ref().map_or_else(String::new, |n| pick(n).to_string_lossy().into_owned())
    };
    let mapped_uids = mapped_uids();
    HostFacts {
        hostname: name(|n| n.nodename()),
        kernel_release: name(|n| n.release()),
        architecture: name(|n| n.machine()),
        uid: Uid::effective().as_raw(),
        user_namespace: mapped_uids < u64::from(u32::MAX),
        mapped_uids,
        fuse_device: fuse_device(),
        fuse_device_for_all: fs::metadata("/dev/fuse")
            .is_ok_and(|device| device.permissions().mode() & 0o006 == 0o006),
        fusermount3: first_existing(&FUSERMOUNT3),
        fusermount: first_existing(&["/usr/bin/fusermount", "/bin/fusermount"]),
        fuse_conf: fuse_conf("/etc/fuse.conf"),
        bridge: path_state(Path::new(bridge)),
        machine_covering_mount: None,
        covering_mount: covering(proc, bridge),
        lsm: lsm(),
        confinement: confinement(),
        cgroup: cgroup().into(),
        fanotify_mount_events: crate::kernel::has_mount_events(),
        kernel: crate::kernel::features(&name(|n| n.release())),
        open_files: getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default(),
        max_mnt_namespaces: read_number("/proc/sys/user/max_mnt_namespaces"),
        runtime: None,
        kubelet: None,
    }
}

/// Where the kernel lists the FUSE connections, if fusectl is mounted there.
pub(crate) const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// The state of processes and connections; a figure that cannot be read is none.
pub(crate) fn usage(proc: &Proc) -> Reply {
    let blocked = |names: Vec<String>| {
        let pids = names.iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
        pids.filter(|pid| state_of(proc, pid) == Some('D')).count() as u64
    };
    let connections = fs::read_dir(CONNECTIONS).ok();
    Reply::Usage {
        blocked_processes: proc.list(".").ok().map(blocked),
        fuse_connections: connections.map(|entries| entries.count() as u64),
    }
}

/// The state letter of a process.
pub(crate) fn state_of(proc: &Proc, pid: &str) -> Option<char> {
    stat(proc, pid)?.chars().next()
}

/// The id of a process's parent.
pub(crate) fn parent_of(proc: &Proc, pid: i32) -> Option<i32> {
    stat(proc, &pid.to_string())?.split(' ').nth(1)?.parse().ok()
}

/// When a process was made, on the monotonic clock, in nanoseconds. The kernel tells it in hundredths
/// of a second since the machine was started.
pub(crate) fn made_at_ns(proc: &Proc, pid: i32) -> Option<u64> {
    const TICK_NS: u64 = 10_000_000;
    const SINCE_BOOT: usize = 19;
    let stat = stat(proc, &pid.to_string())?;
    let ticks: u64 = stat.split(' ').nth(SINCE_BOOT)?.parse().ok()?;
    let since_boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?);
    // The two clocks differ by the time that the machine has slept.
    let slept_ns = u64::try_from(since_boot.as_nanos()).ok()?.saturating_sub(now_ns());
    (ticks * TICK_NS).checked_sub(slept_ns)
}

/// What proc(5)'s stat says of a process after its name, which stands in brackets and may hold
/// anything.
fn stat(proc: &Proc, pid: &str) -> Option<String> {
    let stat = proc.read(&format!("{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&stat);
    text.rsplit_once(") ").map(|(_, rest)| rest.to_owned())
}

fn fuse_device() -> FuseDevice {
    match open("/dev/fuse", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(_) => FuseDevice::Usable,
        Err(errno) => FuseDevice::Unusable { errno: reported(errno) },
    }
}

fn first_existing(paths: &[&str]) -> Option<String> {
    paths.iter().find(|path| Path::new(path).exists()).map(ToString::to_string)
}

/// What a `fuse.conf` says.
pub(crate) fn fuse_conf(path: &str) -> FuseConf {
    let content = fs::read_to_string(path).ok();
    let user_allow_other = content.as_deref().is_some_and(allows_others);
    FuseConf { path: path.into(), exists: content.is_some(), user_allow_other }
}

/// Whether fusermount3 would find the option: a line of its own, blanks and a comment around it
/// allowed. It ignores a last line without a newline ("missing newline at end of file").
fn allows_others(content: &str) -> bool {
    content
        .split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .any(|line| line.split('#').next().is_some_and(|word| word.trim() == "user_allow_other"))
}

/// What is at a path, without following a symbolic link.
fn path_state(path: &Path) -> PathState {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            let errno = errno_of(&error);
            return match errno {
                nix::errno::Errno::ENOENT => PathState::Missing,
                errno => PathState::Error { errno: reported(errno) },
            };
        }
    };
    let kind = metadata.file_type();
    if kind.is_dir() {
        return PathState::Directory;
    }
    let what = if kind.is_symlink() {
        let target = fs::read_link(path).unwrap_or_default();
        format!("a symbolic link to {:?}", target.to_string_lossy())
    } else if kind.is_file() {
        "a regular file".to_owned()
    } else {
        "a special file".to_owned()
    };
    PathState::Other { what }
}

/// How many user ids exist in this user namespace.
pub(crate) fn mapped_uids() -> u64 {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines()
        .filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok())
        .sum::<u64>()
        .max(1)
}

fn lsm() -> Vec<String> {
    let text = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    text.trim().split(',').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect()
}

/// What the security modules go by, as far as it concerns FUSE mounts and can be read.
fn confinement() -> Vec<Confinement> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    // The file is SELinux's too, whose contexts have no mode behind them.
    let own = read("/proc/self/attr/current");
    let own = own.trim().strip_suffix(" (enforce)").map(|name| Confinement::Own(name.to_owned()));
    let profiles = read("/sys/kernel/security/apparmor/profiles");
    let selinux = match read("/sys/fs/selinux/enforce").trim() {
        "1" => Some(Confinement::SelinuxEnforcing),
        "0" => Some(Confinement::SelinuxPermissive),
        _ => None,
    };
    own.into_iter()
        .chain(profiles.lines().filter_map(Confinement::of_profile))
        .chain(selinux)
        .chain(crate::selinux::denied().iter().cloned().map(Confinement::SelinuxDenies))
        .collect()
}

fn cgroup() -> &'static str {
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let legacy = Path::new("/sys/fs/cgroup/memory").exists();
    let hybrid = Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists();
    match (unified, legacy, hybrid) {
        (true, _, _) => "v2",
        (false, true, true) => "hybrid",
        (false, true, false) => "v1",
        (false, false, _) => "none",
    }
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_uncommented_line_allows_others() {
        assert!(allows_others("# x\nuser_allow_other\n"));
        assert!(allows_others("  user_allow_other \nmount_max = 10"));
        assert!(allows_others("user_allow_other # for pods\n"));
        assert!(!allows_others("user_allow_other"), "fusermount3 ignores a line without an end");
        assert!(!allows_others("#user_allow_other\n"));
        assert!(!allows_others("user_allow_others\n"));
        assert!(!allows_others(""));
    }

    #[test]
    fn kinds_of_paths_are_told_apart() {
        let directory =
            std::env::temp_dir().join(format!("propagation-facts-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a scratch directory");
        let file = directory.join("file");
        fs::write(&file, "x").expect("a file");
        let link = directory.join("link");
        std::os::unix::fs::symlink(&directory, &link).expect("a link");
        assert_eq!(path_state(&directory), PathState::Directory);
        assert_eq!(path_state(&directory.join("none")), PathState::Missing);
        assert!(matches!(path_state(&file), PathState::Other { what } if what == "a regular file"));
        assert!(matches!(path_state(&link), PathState::Other { what } if what.contains("link to")));
        assert!(
            matches!(path_state(&file.join("x")), PathState::Error { errno } if errno == propagation_model::Errno::ENOTDIR)
        );
        fs::remove_dir_all(&directory).expect("clean up");
    }
}
