//! The root of a simulated node. The caller's mounts are not touched: the root exists only in the node's own
//! mount namespace.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::{chdir, sethostname};
use propagation_model::plan::{BridgeState, Covering, RuntimeSpec};
use propagation_protocol::{Failure, NodeSetup};

use crate::failure::system;
use crate::fuse_mount::FUSERMOUNT3;
use crate::mounts::{
    bind, bind_recursive, change_root, errno_of, make_all_private, make_directory, proc, propagate,
    propagate_recursive, read_only, remount_read_only, tmpfs, unmount_lazily,
};

/// The runtime's disk on the node: the containers' image, their root filesystems, its own program.
pub(super) const DISK: &str = "/run/propagation/image";

/// What the root filesystem of every container begins as.
pub(super) const IMAGE: &str = "/run/propagation/image/template";

/// Devices that a node has.
const DEVICES: [&str; 5] = ["null", "zero", "random", "urandom", "fuse"];

/// Host directories with programs and their libraries.
const HOST_TOOLS: [&str; 8] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix"];

/// Files of the kernel on the node that change the machine: they are read-only.
const OF_THE_MACHINE: [&str; 3] = ["/sys", "/proc/sys", "/proc/sysrq-trigger"];

/// Gives the calling process's new mount namespace its own root, private from the caller's, with programs,
/// devices, /proc and /sys of the machine. Returns the OCI runtime to copy, which cannot be opened any more
/// without the machine's root.
pub(super) fn base(setup: &NodeSetup) -> Result<Option<HostRuntime>, Failure> {
    let spec = &setup.spec;
    let step = |what: &str| {
        let what = format!("build the node: {what}");
        move |errno| system(what, errno)
    };
    make_all_private().map_err(step("make all mounts private"))?;
    let base = ["/tmp", "/mnt", "/run", "/var"].into_iter().map(Path::new).find(|p| p.is_dir());
    let root = base.unwrap_or(Path::new("/"));
    let mut options = String::from("mode=755");
    if spec.disk_bytes > 0 {
        options = format!("{options},size={}", spec.disk_bytes);
    }
    // The directory is covered in this namespace only.
    let host = HostTrees::open(spec.without_host_tools)?;
    let runtime = HostRuntime::open(&spec.runtime)?;
    tmpfs(root, &options).map_err(step("mount its root"))?;
    chdir(root).map_err(step("enter its root"))?;
    directories().map_err(|e| system("build the node: make directories", errno_of(&e)))?;
    host.bind_here()?;
    fs::create_dir_all("proc").map_err(|e| system("make proc", errno_of(&e)))?;
    proc(Path::new("proc")).map_err(step("mount /proc"))?;
    bind_recursive(Path::new("/sys"), Path::new("sys")).map_err(step("bind /sys"))?;
    change_root().map_err(step("change the root"))?;
    for path in OF_THE_MACHINE.map(Path::new).into_iter().filter(|path| path.exists()) {
        let on_itself = path.starts_with("/proc").then(|| bind_recursive(path, path));
        on_itself
            .unwrap_or(Ok(()))
            .and_then(|()| read_only(path))
            .map_err(step("hold what is the machine's"))?;
    }
    // Naming needs a namespace of its own; without it the host's name stays, which hurts nobody.
    if unshare(CloneFlags::CLONE_NEWUTS).is_ok() {
        let _ = sethostname("propagation-node");
    }
    Ok(runtime)
}

/// Makes the rest of the node: its files, the containers' image, the bridge; everything shared as systemd
/// leaves it.
pub(super) fn furnish(setup: &NodeSetup, runtime: Option<HostRuntime>) -> Result<(), Failure> {
    let step = |what: &str| {
        let what = format!("build the node: {what}");
        move |errno| system(what, errno)
    };
    tmpfs(Path::new("/tmp"), "mode=1777").map_err(step("mount /tmp"))?;
    files(setup).map_err(|e| system("build the node: write /etc", errno_of(&e)))?;
    image(setup)?;
    fusermount3()?;
    runtime.map_or(Ok(()), HostRuntime::copy)?;
    propagate_recursive(Path::new("/"), MsFlags::MS_SHARED).map_err(step("make / shared"))?;
    covering(setup)?;
    bridge(setup).map_err(|e| system("build the node: prepare the bridge path", errno_of(&e)))
}

/// Host directories that are bound into the node.
struct HostTrees {
    names: Vec<&'static str>,
}

impl HostTrees {
    fn open(without_tools: bool) -> Result<Self, Failure> {
        let tools: &[&'static str] = if without_tools { &[] } else { &HOST_TOOLS };
        let names = tools.iter().copied().filter(|name| Path::new("/").join(name).exists());
        Ok(Self { names: names.collect() })
    }

    fn bind_here(&self) -> Result<(), Failure> {
        for name in &self.names {
            let source = PathBuf::from("/").join(name);
            // On most systems /bin, /lib and the like are links into /usr.
            if let Ok(target) = fs::read_link(&source) {
                symlink(target, name)
                    .map_err(|e| system(format!("build the node: link {name}"), errno_of(&e)))?;
                continue;
            }
            let failed = |errno| system(format!("build the node: bind /{name}"), errno);
            make_directory(Path::new(name)).map_err(failed)?;
            bind_recursive(&source, Path::new(name)).map_err(failed)?;
            read_only(Path::new(name)).map_err(failed)?;
        }
        for name in DEVICES {
            let source = PathBuf::from("/dev").join(name);
            if !source.exists() {
                continue;
            }
            let target = PathBuf::from("dev").join(name);
            if make_device(&source, &target) {
                continue;
            }
            fs::write(&target, "")
                .map_err(|e| system(format!("build the node: make dev/{name}"), errno_of(&e)))?;
            // Read-only is the node's hold on the machine's file: a device is written to all the same.
            bind(&source, &target)
                .and_then(|()| read_only(&target))
                .map_err(|errno| system(format!("build the node: bind /dev/{name}"), errno))?;
        }
        Ok(())
    }
}

/// Makes a device of the node's own, open to every user as udev has them; returns whether it could. Where
/// the machine's does not open for its owner there is nothing to make.
fn make_device(source: &Path, target: &Path) -> bool {
    let usable = fs::OpenOptions::new().read(true).write(true).open(source).is_ok();
    let Some(device) = fs::metadata(source).ok().map(|metadata| metadata.rdev()) else {
        return false;
    };
    let mode = Mode::from_bits_truncate(0o666);
    let made = usable && mknod(target, SFlag::S_IFCHR, mode, device).is_ok();
    // The umask counts at making; whether it can be used depends on the mount (nodev).
    let opened = made
        && fs::set_permissions(target, fs::Permissions::from_mode(0o666)).is_ok()
        && fs::OpenOptions::new().read(true).write(true).open(target).is_ok();
    if made && !opened {
        let _ = fs::remove_file(target);
    }
    opened
}

/// Where the program of an OCI runtime is on the node: by its own name, by which it may go.
pub(super) fn runtime_on_node(runtime: &RuntimeSpec) -> PathBuf {
    let engine = runtime.engine.to_string();
    let name = Path::new(&engine).file_name().unwrap_or_default();
    Path::new(DISK).join("runtime").join(name)
}

/// The program of an OCI runtime, wherever it is on the host. The node has a copy of it: runc from 1.2 on
/// runs itself from an overlay of the directory that it lies in, which shows what lies under a bind of the
/// file.
pub(super) struct HostRuntime {
    program: File,
    target: PathBuf,
}

impl HostRuntime {
    /// Opens it: the node's root may cover its path.
    fn open(runtime: &RuntimeSpec) -> Result<Option<Self>, Failure> {
        if runtime.is_builtin() {
            return Ok(None);
        }
        let program = File::open(runtime.engine.to_string()).map_err(|e| {
            system(format!("build the node: open {}", runtime.engine), errno_of(&e))
        })?;
        Ok(Some(Self { program, target: runtime_on_node(runtime) }))
    }

    fn copy(mut self) -> Result<(), Failure> {
        let mut copy = || -> std::io::Result<()> {
            self.target.parent().map_or(Ok(()), fs::create_dir_all)?;
            let mut target =
                OpenOptions::new().write(true).create_new(true).mode(0o755).open(&self.target)?;
            std::io::copy(&mut self.program, &mut target).map(drop)
        };
        copy().map_err(|e| system("build the node: copy the runtime", errno_of(&e)))
    }
}

fn directories() -> std::io::Result<()> {
    for name in ["dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "var"] {
        fs::create_dir(name)?;
    }
    Ok(())
}

/// The users that exist in nodes and containers, for programs that look up names.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      user:x:1000:1000:user:/tmp:/bin/sh\n\
                      nobody:x:65534:65534:nobody:/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n";

fn files(setup: &NodeSetup) -> std::io::Result<()> {
    etc(Path::new("/etc"), setup.spec.fuse_conf.as_deref())
}

fn etc(directory: &Path, fuse_conf: Option<&str>) -> std::io::Result<()> {
    fs::write(directory.join("passwd"), PASSWD)?;
    fs::write(directory.join("group"), GROUP)?;
    symlink("/proc/self/mounts", directory.join("mtab"))?;
    if let Some(content) = fuse_conf {
        fs::write(directory.join("fuse.conf"), content)?;
    }
    Ok(())
}

/// The runtime's disk, a mount of its own as a container's overlay is, with the image.
fn image(setup: &NodeSetup) -> Result<(), Failure> {
    let disk = Path::new(DISK);
    make_directory(disk).map_err(|errno| system("build the node: make the image", errno))?;
    tmpfs(disk, "mode=755").map_err(|errno| system("build the node: mount the image", errno))?;
    let fuse_conf = setup.spec.container_fuse_conf.as_deref();
    fill_rootfs(Path::new(IMAGE), fuse_conf)
        .map_err(|e| system("build the node: fill the image", errno_of(&e)))
}

/// Gives a node in a user namespace a fusermount3 that works: the machine's belongs to a root that is not in
/// that namespace, and so its set-uid bit means nothing there. A copy belongs to the node's root.
fn fusermount3() -> Result<(), Failure> {
    let Some(program) = FUSERMOUNT3.iter().find_map(|path| fs::canonicalize(path).ok()) else {
        return Ok(());
    };
    let copy = || -> std::io::Result<()> {
        if fs::metadata(&program)?.uid() == 0 {
            return Ok(());
        }
        let copy = Path::new(DISK).join("fusermount3");
        fs::copy(&program, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755))?;
        bind(&copy, &program)?;
        Ok(())
    };
    copy().map_err(|e| system("build the node: copy fusermount3", errno_of(&e)))
}

/// Makes what the root filesystem of every container has.
pub(super) fn fill_rootfs(rootfs: &Path, fuse_conf: Option<&str>) -> std::io::Result<()> {
    fs::create_dir_all(rootfs)?;
    for name in ["dev", "etc", "mnt", "proc", "run", "tmp", "usr", "var"] {
        fs::create_dir(rootfs.join(name))?;
    }
    fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    for name in HOST_TOOLS.iter().filter(|name| Path::new("/").join(name).is_symlink()) {
        symlink(fs::read_link(Path::new("/").join(name))?, rootfs.join(name))?;
    }
    etc(&rootfs.join("etc"), fuse_conf)
}

/// The mount that covers the bridge, with the propagation that was asked for.
fn covering(setup: &NodeSetup) -> Result<(), Failure> {
    let spec = &setup.spec;
    if !spec.mounts.is_empty() {
        return on_the_way(setup);
    }
    if spec.covering == Covering::Shared && !spec.read_only {
        return Ok(());
    }
    let failed = |errno| system("build the node: shape the covering mount", errno);
    let top = covering_directory(&setup.bridge);
    let own = spec.covering == Covering::Tmpfs;
    if top != Path::new("/") && (own || top != Path::new("/tmp")) {
        make_directory(&top).map_err(failed)?;
        tmpfs(&top, "mode=1777").map_err(failed)?;
    }
    if spec.covering == Covering::Slave {
        // A slave needs a master: a second mount of the same directory.
        let master = Path::new("/run/propagation/master");
        make_directory(master).map_err(failed)?;
        bind_recursive(&top, master).map_err(failed)?;
        propagate(&top, MsFlags::MS_SLAVE).map_err(failed)?;
    } else if spec.covering == Covering::Private {
        propagate(&top, MsFlags::MS_PRIVATE).map_err(failed)?;
    }
    Ok(())
}

/// The mounts on the way to the bridge, each at its place and with its propagation, and no others.
fn on_the_way(setup: &NodeSetup) -> Result<(), Failure> {
    let failed = |errno| system("build the node: make the mounts on the way to the bridge", errno);
    let mounts = &setup.spec.mounts;
    let tmp = Path::new("/tmp");
    if Path::new(&setup.bridge).starts_with(tmp) && mounts.iter().all(|mount| mount.at != "/tmp") {
        unmount_lazily(tmp).map_err(failed)?;
        let open = fs::Permissions::from_mode(0o1777);
        fs::set_permissions(tmp, open).map_err(|e| failed(errno_of(&e)))?;
    }
    for (number, mount) in mounts.iter().enumerate() {
        let at = Path::new("/").join(&mount.at);
        let is_there = at == Path::new("/") || at == tmp;
        let is_in_use = || fs::read_dir(&at).is_ok_and(|mut entries| entries.next().is_some());
        if !is_there && is_in_use() {
            // What the node needs lies below it and stays: programs, the runtime's disk.
            bind_recursive(&at, &at).map_err(failed)?;
            propagate(&at, MsFlags::MS_PRIVATE).map_err(failed)?;
        } else if !is_there {
            make_directory(&at).map_err(failed)?;
            tmpfs(&at, "mode=1777").map_err(failed)?;
        }
        match mount.propagation {
            Covering::Shared | Covering::Tmpfs => propagate(&at, MsFlags::MS_SHARED),
            Covering::Private => propagate(&at, MsFlags::MS_PRIVATE),
            Covering::Slave => {
                // A slave needs a master: a second mount of the same directory.
                let master = PathBuf::from(format!("/run/propagation/master{number}"));
                make_directory(&master)
                    .and_then(|()| propagate(&at, MsFlags::MS_SHARED))
                    // Of the root a part alone cannot be bound: what lies below it is locked.
                    .and_then(|()| bind_recursive(&at, &master))
                    .and_then(|()| propagate(&at, MsFlags::MS_SLAVE))
            }
        }
        .map_err(failed)?;
    }
    Ok(())
}

/// The top-level directory that the bridge lies in; the root itself when it lies in none.
fn covering_directory(bridge: &str) -> PathBuf {
    let mut parts = bridge.trim_start_matches('/').split('/');
    match (parts.next(), parts.next()) {
        (Some(first), Some(_)) => PathBuf::from("/").join(first),
        _ => PathBuf::from("/"),
    }
}

/// What the plan says is at the bridge path before the run.
fn bridge(setup: &NodeSetup) -> std::io::Result<()> {
    let path = Path::new(&setup.bridge);
    if setup.spec.bridge != BridgeState::Missing {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    }
    match setup.spec.bridge {
        BridgeState::Missing => {}
        BridgeState::Directory => fs::create_dir_all(path.join(&setup.mountpoint))?,
        BridgeState::File => fs::write(path, "not a directory\n")?,
        BridgeState::Symlink => {
            fs::create_dir_all("/var/elsewhere")?;
            symlink("/var/elsewhere", path)?;
        }
    }
    if setup.spec.read_only {
        let top = covering_directory(&setup.bridge);
        remount_read_only(&top)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_covering_directory_is_the_top_one() {
        assert_eq!(covering_directory("/tmp/fuse-test-bridge"), Path::new("/tmp"));
        assert_eq!(covering_directory("/srv/a/b"), Path::new("/srv"));
        assert_eq!(covering_directory("/bridge"), Path::new("/"));
    }
}
