//! Mounting, in the words of mount(8).

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mountinfo::{MountEntry, MountPath, MountTable};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use propagation_model::plan::Propagation;
use propagation_protocol::Failure;

use crate::failure::{failure, system};

const NONE: Option<&str> = None;

/// Binds `source` on `target` with all its submounts.
pub(crate) fn bind_recursive(source: &Path, target: &Path) -> Result<(), Errno> {
    mount(Some(source), target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
}

/// Binds `source` on `target` alone.
pub(crate) fn bind(source: &Path, target: &Path) -> Result<(), Errno> {
    mount(Some(source), target, NONE, MsFlags::MS_BIND, NONE)
}

/// Changes the propagation of the mount at `target` and of all below it.
pub(crate) fn propagate_recursive(target: &Path, how: MsFlags) -> Result<(), Errno> {
    mount(NONE, target, NONE, how | MsFlags::MS_REC, NONE)
}

/// Changes the propagation of the mount at `target` alone.
pub(crate) fn propagate(target: &Path, how: MsFlags) -> Result<(), Errno> {
    mount(NONE, target, NONE, how, NONE)
}

/// The same number in the other library's type.
pub(crate) fn to_nix(errno: rustix::io::Errno) -> Errno {
    Errno::from_raw(errno.raw_os_error())
}

/// The kernel's flag for a volume's mode.
pub(crate) fn flag_of(propagation: Propagation) -> MsFlags {
    match propagation {
        Propagation::None => MsFlags::MS_PRIVATE,
        Propagation::HostToContainer => MsFlags::MS_SLAVE,
        Propagation::Bidirectional => MsFlags::MS_SHARED,
    }
}

/// Mounts a tmpfs.
pub(crate) fn tmpfs(target: &Path, options: &str) -> Result<(), Errno> {
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::empty(), Some(options))
}

/// Mounts procfs, or binds the one that is there where that is not allowed: a container that masks
/// parts of /proc forbids a fresh one in a user namespace.
pub(crate) fn proc(target: &Path) -> Result<(), Errno> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match mount(Some("proc"), target, Some("proc"), flags, NONE) {
        Err(Errno::EPERM) => bind_recursive(Path::new("/proc"), target),
        result => result,
    }
}

/// Makes everything below `target` read-only.
pub(crate) fn read_only(target: &Path) -> Result<(), Errno> {
    set_read_only(target, true)
}

/// Makes everything below `target` writable, as far as its filesystems are.
pub(crate) fn writable(target: &Path) -> Result<(), Errno> {
    set_read_only(target, false)
}

fn set_read_only(target: &Path, is_read_only: bool) -> Result<(), Errno> {
    let path = CString::new(target.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    match crate::sys::set_read_only(&path, is_read_only) {
        // Before Linux 5.12 there is no call for a whole tree of mounts.
        Err(Errno::ENOSYS) => remount_each(target, is_read_only),
        result => result,
    }
}

/// Remounts each mount at and below `target`; the flags that it has beside are kept. Where the mount table
/// cannot be read, in a process that its /proc does not show, it is the mount at `target` alone.
fn remount_each(target: &Path, is_read_only: bool) -> Result<(), Errno> {
    let target = fs::canonicalize(target).map_err(|error| errno_of(&error))?;
    let wanted = |mut flags: MsFlags| {
        flags.set(MsFlags::MS_RDONLY, is_read_only);
        flags
    };
    let Ok(table) = fs::read("/proc/self/mountinfo") else {
        let held = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        return remount(&target, wanted(held));
    };
    let table = MountTable::parse(&table).map_err(|_| Errno::EINVAL)?;
    let tree = MountPath::new(target.as_os_str().as_bytes());
    let mut remounted = false;
    for entry in table.iter().filter(|entry| entry.mount_point.starts_with(&tree)) {
        let flags = wanted(flags_of(&entry.mount_options));
        match remount(&entry.mount_point.to_path_buf(), flags) {
            // What another mount lies over cannot be reached, by nobody else either.
            Err(Errno::EINVAL | Errno::ENOENT) if entry.mount_point != tree => {}
            result => result?,
        }
        remounted = true;
    }
    if remounted { Ok(()) } else { Err(Errno::EINVAL) }
}

/// The flags of a mount, from their words in mountinfo.
pub(crate) fn flags_of(mount_options: &str) -> MsFlags {
    let flag = |word| match word {
        "ro" => MsFlags::MS_RDONLY,
        "nosuid" => MsFlags::MS_NOSUID,
        "nodev" => MsFlags::MS_NODEV,
        "noexec" => MsFlags::MS_NOEXEC,
        "noatime" => MsFlags::MS_NOATIME,
        "nodiratime" => MsFlags::MS_NODIRATIME,
        "relatime" => MsFlags::MS_RELATIME,
        _ => MsFlags::empty(),
    };
    mount_options.split(',').map(flag).collect()
}

/// Makes the mount at `target` read-only, and nothing below it.
pub(crate) fn remount_read_only(target: &Path) -> Result<(), Errno> {
    match remount(target, MsFlags::MS_RDONLY) {
        // Another user namespace holds flags of it: those are kept.
        Err(Errno::EPERM) => {}
        result => return result,
    }
    let target = fs::canonicalize(target).map_err(|error| errno_of(&error))?;
    let table = fs::read("/proc/self/mountinfo").map_err(|error| errno_of(&error))?;
    let table = MountTable::parse(&table).map_err(|_| Errno::EINVAL)?;
    let mount = table.at(&MountPath::from(target.as_path())).ok_or(Errno::EINVAL)?;
    remount(&target, flags_of(&mount.mount_options) | MsFlags::MS_RDONLY)
}

/// Gives the mount at `target` alone these flags and no others.
pub(crate) fn remount(target: &Path, flags: MsFlags) -> Result<(), Errno> {
    mount(NONE, target, NONE, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags, NONE)
}

/// Unmounts the topmost mount at `target` lazily, also one in use or stale.
pub(crate) fn unmount_lazily(target: &Path) -> Result<(), Errno> {
    umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
}

/// Makes the current directory the root and drops the old root, as runc does.
pub(crate) fn pivot_into_current_directory() -> Result<(), Errno> {
    let dot = Path::new(".");
    let old_root = open_directory("/")?;
    nix::unistd::pivot_root(dot, dot)?;
    // The old root now lies on top of the new one. Its unmounting must not travel to the host.
    nix::unistd::fchdir(&old_root)?;
    propagate_recursive(dot, MsFlags::MS_SLAVE)?;
    umount2(dot, MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")
}

/// As [`pivot_into_current_directory`], also where the root cannot be exchanged: in a chroot, and on an
/// initramfs, which stays under the new root.
pub(crate) fn change_root() -> Result<(), Errno> {
    match pivot_into_current_directory() {
        Err(Errno::EINVAL) => {}
        result => return result,
    }
    let here = open_directory(".")?;
    enter_root_of_namespace()?;
    nix::unistd::fchdir(&here)?;
    match pivot_into_current_directory() {
        Err(Errno::EINVAL) => {}
        result => return result,
    }
    mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE)?;
    nix::unistd::chroot(".")?;
    nix::unistd::chdir("/")
}

/// Makes all mounts of the calling process's namespace private, also mounts outside its chroot.
pub(crate) fn make_all_private() -> Result<(), Errno> {
    let all = || propagate_recursive(Path::new("/"), MsFlags::MS_PRIVATE);
    match all() {
        // The root is a directory, and no mount.
        Err(Errno::EINVAL) => {}
        result => return result,
    }
    outside_of_chroot(|_| all())?
}

/// The mount that covers a path, also where a chroot hides it: it is looked for from the root of the mount
/// namespace, where that may be entered.
pub(crate) fn covering(proc: &Proc, path: &str) -> Option<MountEntry> {
    let own = proc.mount_table().ok()?;
    own.covering(&MountPath::from(path)).cloned().or_else(|| {
        let seen = outside_of_chroot(|root| {
            let name = proc.link(&format!("thread-self/fd/{}", root.as_raw_fd())).ok()?;
            let path = Path::new(&name).join(path.trim_start_matches('/'));
            proc.mount_table().ok()?.covering(&MountPath::from(path.as_path())).cloned()
        });
        seen.ok()?
    })
}

/// Does something in the root of the mount namespace, given the root that the process has, and comes back.
fn outside_of_chroot<T>(work: impl FnOnce(&OwnedFd) -> T) -> Result<T, Errno> {
    let root = open_directory("/")?;
    enter_root_of_namespace()?;
    let done = work(&root);
    nix::unistd::fchdir(&root)?;
    nix::unistd::chroot(".")?;
    Ok(done)
}

/// Leaves a chroot: a process that enters a mount namespace, even its own, gets the root of that namespace.
fn enter_root_of_namespace() -> Result<(), Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let own = open("/proc/thread-self/ns/mnt", flags, Mode::empty())?;
    nix::sched::setns(own, nix::sched::CloneFlags::CLONE_NEWNS)
}

fn open_directory(path: &str) -> Result<OwnedFd, Errno> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// A descriptor of /proc that stays valid whatever the current root becomes.
#[derive(Debug)]
pub struct Proc(OwnedFd);

impl Proc {
    /// Opens /proc of the current root.
    ///
    /// # Errors
    /// When there is none.
    pub fn open() -> Result<Self, Failure> {
        open_directory("/proc").map(Self).map_err(|e| system("open /proc", e))
    }

    /// Opens a file of the calling thread, such as `mountinfo` or `ns/mnt`.
    pub(crate) fn of_thread(&self, name: &str) -> Result<OwnedFd, Errno> {
        self.open_file(&format!("thread-self/{name}"))
    }

    /// Opens a file of it, such as `1/ns/mnt`.
    pub(crate) fn open_file(&self, name: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        nix::fcntl::openat(self.0.as_fd(), name, flags, Mode::empty())
    }

    /// Reads a file of it, such as `self/uid_map`.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let file = self.open_file(name)?;
        let mut content = Vec::new();
        File::from(file).read_to_end(&mut content).map_err(|error| errno_of(&error))?;
        Ok(content)
    }

    /// A process by its number in the pid namespace of the caller, where it has one there: this may be the /proc of
    /// another one.
    pub(crate) fn own_number(&self, pid: Pid) -> Option<Pid> {
        let numbers = |name: &str| -> Option<Vec<i32>> {
            let status = self.read(&format!("{name}/status")).ok()?;
            let text = String::from_utf8_lossy(&status).into_owned();
            let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?.to_owned();
            line.split_whitespace().map(|number| number.parse().ok()).collect()
        };
        // One for each namespace below that of this /proc, down to the process's own.
        let depth = numbers("thread-self")?.len();
        let number = *numbers(&pid.to_string())?.get(depth.checked_sub(1)?)?;
        Some(Pid::from_raw(number))
    }

    /// Device and inode behind a name in it, which identify a namespace.
    pub(crate) fn identity(&self, name: &str) -> Result<(u64, u64), Errno> {
        let there = nix::sys::stat::fstatat(self.0.as_fd(), name, AtFlags::empty())?;
        Ok((there.st_dev, there.st_ino))
    }

    /// What a link of it says, such as `self/ns/mnt`.
    pub(crate) fn link(&self, name: &str) -> Result<std::ffi::OsString, Errno> {
        nix::fcntl::readlinkat(self.0.as_fd(), name)
    }

    /// Writes a file of it, in one call.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), Errno> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = nix::fcntl::openat(self.0.as_fd(), name, flags, Mode::empty())?;
        nix::unistd::write(&file, content).map(drop)
    }

    /// The names in a directory of it.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<String>, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = nix::fcntl::openat(self.0.as_fd(), name, flags, Mode::empty())?;
        let entries = rustix::fs::Dir::read_from(&directory).map_err(to_nix)?;
        let names = entries.filter_map(Result::ok);
        Ok(names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }

    /// The text of the calling thread's mountinfo: its namespace, its root.
    pub(crate) fn mountinfo(&self) -> Result<Vec<u8>, Failure> {
        let operation = "read /proc/thread-self/mountinfo";
        let file = self.of_thread("mountinfo").map_err(|e| system(operation, e))?;
        let mut text = Vec::with_capacity(4096);
        File::from(file).read_to_end(&mut text).map_err(|error| {
            failure(propagation_model::ErrorKind::Environment, operation, error.to_string(), None)
        })?;
        Ok(text)
    }

    /// The parsed mountinfo of the calling thread.
    pub(crate) fn mount_table(&self) -> Result<MountTable, Failure> {
        parse(&self.mountinfo()?)
    }
}

/// Parses mountinfo.
pub(crate) fn parse(text: &[u8]) -> Result<MountTable, Failure> {
    MountTable::parse(text).map_err(|error| {
        failure(
            propagation_model::ErrorKind::Internal,
            "parse mountinfo",
            error.to_string(),
            Some("report this line as a bug"),
        )
    })
}

/// Where a name in a directory is, if that directory is a symbolic link: mount tables have no links.
pub(crate) fn through_link(directory: &Path, name: &OsStr) -> Option<PathBuf> {
    fs::symlink_metadata(directory).ok().filter(fs::Metadata::is_symlink)?;
    Some(fs::canonicalize(directory).ok()?.join(name))
}

/// A mountpoint of the node as its mount table has it. May block.
pub(crate) fn as_in_table(path: &str) -> String {
    let there = Path::new(path).parent().zip(Path::new(path).file_name());
    let real = there.and_then(|(directory, name)| through_link(directory, name));
    real.map_or_else(|| path.to_owned(), |real| real.to_string_lossy().into_owned())
}

/// Makes a directory and its parents.
pub(crate) fn make_directory(path: &Path) -> Result<(), Errno> {
    fs::create_dir_all(path).map_err(|e| errno_of(&e))
}

/// The errno of an I/O error; `EIO` for one that has none.
pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Tells the test that it is in a user namespace that does not hold the flags of the mount.
    const LOCKED: &str = "PROPAGATION_TEST_LOCKED_FLAGS";

    #[test]
    fn a_mount_with_locked_flags_becomes_read_only_and_keeps_them() {
        let name = "mounts::tests::a_mount_with_locked_flags_becomes_read_only_and_keeps_them";
        let [source, target] = ["/tmp/source", "/tmp/target"].map(Path::new);
        if std::env::var_os(LOCKED).is_some() {
            bind(source, target).expect("the mount");
            assert_eq!(remount(target, MsFlags::MS_RDONLY), Err(Errno::EPERM), "nothing is locked");
            assert_eq!(remount_read_only(target), Ok(()));
            let table = Proc::open().and_then(|proc| proc.mount_table()).expect("mountinfo");
            let mount = table.at(&MountPath::from(target)).expect("the mount");
            let wanted = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            assert!(flags_of(&mount.mount_options).contains(wanted), "{}", mount.mount_options);
            return;
        }
        if !crate::own_mounts::inside(name) {
            return;
        }
        for path in [source, target] {
            make_directory(path).expect("a directory");
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), source, Some("tmpfs"), flags, NONE).expect("the mount");
        // Its path may be below /tmp, where nothing is now.
        let program = std::fs::File::open("/proc/self/exe").and_then(|file| {
            nix::unistd::dup(&file).map_err(std::io::Error::from) // without FD_CLOEXEC
        });
        let program = program.expect("its program");
        let mut locked = Command::new("unshare");
        locked.args(["--user", "--map-root-user", "--mount"]);
        locked.arg(format!("/proc/self/fd/{}", program.as_raw_fd())).args(["--exact", name]);
        let output = locked.env(LOCKED, "1").output().expect("unshare (util-linux)");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}
