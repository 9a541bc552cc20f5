//! Makes a container as the runtime does: in its order, with its checks and its texts.
//!
//! The checks and texts are those of containerd's CRI plugin (`WithMounts`), the mounting is that
//! of runc (`prepareRoot`, `mountToRootfs`, `pivotRoot`).

use std::fs;
use std::path::{Path, PathBuf};

use mountinfo::MountPath;
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chdir;
use propagation_model::plan::{BindSpec, NodeSpec, Propagation};
use propagation_model::program::{RefusalKind, StartRefused};
use propagation_protocol::{Bind, ContainerSpec};

use super::host_path;
use super::made::{Made, refused};
use super::oci::{self, Engine};
use super::root::DISK;
use super::rootfs;
use super::runtime::{carries, enter_user_namespace, finished};
use super::sub_path::{self, SUB_PATHS};
use crate::mounts::{
    Proc, bind as bind_alone, bind_recursive, errno_of, flag_of, make_directory,
    pivot_into_current_directory, propagate, propagate_recursive, read_only, remount_read_only,
};
use crate::view::View;

/// Devices that every container has, from the node.
const PLAIN_DEVICES: [&str; 4] = ["null", "zero", "random", "urandom"];

/// What the kubelet and containerd look at before the runtime begins; the volume that is experimented with.
/// Runs in a child that can be given up: a volume's source may hang, and `at` is told each before it is looked at.
pub(super) fn look(
    spec: &ContainerSpec,
    proc: &Proc,
    node: &NodeSpec,
    at: &dyn Fn(&str),
) -> Result<Bind, StartRefused> {
    for bind in &spec.volumes {
        at(&bind.source);
        host_path::check(bind)?;
    }
    at(&spec.volumes[0].source);
    let volume = experiment(spec, proc, node.kubelet_heals_sub_path)?;
    for bind in std::iter::once(&volume).chain(&spec.volumes[1..]) {
        at(&bind.source);
        check_source(&bind.source)?;
        check_covering(bind, proc)?;
    }
    Ok(volume)
}

/// Makes one container whose volumes have been looked at, and returns to `base`, from which it is made; with
/// an OCI runtime where there is one.
pub(super) fn create(
    spec: &ContainerSpec,
    volume: &Bind,
    proc: &Proc,
    base: &View,
    node: &NodeSpec,
    engine: Option<&Engine>,
) -> Result<Made, StartRefused> {
    let rootfs = rootfs::prepare(spec, node.container_fuse_conf.as_deref(), proc)?;
    if let Some(engine) = engine {
        return oci::create(spec, volume, &rootfs, proc, base, engine);
    }
    let made = build(spec, volume, &rootfs, proc, base);
    let made = made.map(|views| Made { views, process: None });
    if base.user.is_none() && !spec.user_namespace {
        let back = base.enter_mounts();
        let made = made?;
        back.map_err(|errno| refused("return to the runtime's mount namespace", errno))?;
        return Ok(made);
    }
    made
}

/// The volume that is experimented with: with a subPath it is the kubelet's own bind.
fn experiment(spec: &ContainerSpec, proc: &Proc, heals: bool) -> Result<Bind, StartRefused> {
    let volume = spec.volumes[0].clone();
    let Some(sub_path) = &spec.sub_path else { return Ok(volume) };
    check_source(&volume.source)?;
    let own = Path::new(SUB_PATHS).join(&spec.name);
    let source = Path::new(&volume.source).join(sub_path);
    sub_path::bind(&source, &own, spec.fresh_pod, heals, proc)?;
    Ok(Bind { source: own.to_string_lossy().into_owned(), ..volume })
}

/// containerd stats the source of a volume, and makes a directory where there is nothing.
fn check_source(source: &str) -> Result<(), StartRefused> {
    match fs::metadata(source) {
        Ok(_) => Ok(()),
        Err(error) => {
            let errno = errno_of(&error);
            if errno != Errno::ENOENT {
                let operation = format!("failed to stat {source:?}: stat {source}");
                return Err(refused(&operation, errno));
            }
            make_directory(Path::new(source)).map_err(|errno| {
                refused(&format!("failed to mkdir {source:?}: mkdir {source}"), errno)
            })
        }
    }
}

/// containerd looks up the mount that the source lies on and refuses what cannot propagate.
fn check_covering(bind: &Bind, proc: &Proc) -> Result<(), StartRefused> {
    if bind.propagation == Propagation::None {
        return Ok(());
    }
    // The runtime resolves links in the source before it looks.
    let source = fs::canonicalize(&bind.source).map_err(|e| {
        refused(&format!("failed to resolve symlink {:?}", bind.source), errno_of(&e))
    })?;
    let table = proc.mount_table().map_err(|failure| {
        let text = format!("{}: {}", failure.operation, failure.reason);
        StartRefused::of(RefusalKind::Other, text)
    })?;
    let Some(mount) = table.covering(&MountPath::from(source.as_path())) else {
        return Ok(());
    };
    let Err(words) = carries(mount.propagation(), bind.propagation) else { return Ok(()) };
    let mount_point = mount.mount_point.to_string_lossy();
    let text =
        format!("path {:?} is mounted on {mount_point:?} but it is not {words}", bind.source);
    Err(StartRefused::of(RefusalKind::NotShared, text))
}

fn build(
    spec: &ContainerSpec,
    volume: &Bind,
    rootfs: &Path,
    proc: &Proc,
    base: &View,
) -> Result<Vec<View>, StartRefused> {
    if spec.user_namespace {
        enter_user_namespace(proc).map_err(|errno| refused("make the user namespace", errno))?;
    }
    enter(spec, volume, rootfs)?;
    let with_user = spec.user_namespace || base.user.is_some();
    let own = || finished(proc, with_user).map_err(|errno| refused("open the namespace", errno));
    let mut views = vec![own()?];
    for _ in 1..spec.replicas {
        // A copy of the finished namespace has the same propagation graph as one built from the
        // beginning: a slave's copy is a slave of the same master, a private mount's is private, a
        // shared mount's is a peer.
        unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| refused("unshare", errno))?;
        views.push(own()?);
    }
    Ok(views)
}

/// Unshares, makes `/` a slave (or leaves it shared) before any bind, binds, pivots.
fn enter(spec: &ContainerSpec, volume: &Bind, root: &Path) -> Result<(), StartRefused> {
    let step = |what: &'static str| move |errno| refused(what, errno);
    unshare(CloneFlags::CLONE_NEWNS).map_err(step("unshare the mount namespace"))?;
    // containerd asks for the root's propagation by the strongest of the volumes'.
    let shares = |bind: &Bind| bind.propagation == Propagation::Bidirectional;
    let root_propagation = match spec.volumes.iter().any(shares) {
        true => MsFlags::MS_SHARED,
        false => MsFlags::MS_SLAVE,
    };
    propagate_recursive(Path::new("/"), root_propagation).map_err(step("propagation of /"))?;
    let parent = Path::new(DISK);
    propagate(parent, MsFlags::MS_PRIVATE).map_err(step("propagation of the rootfs' parent"))?;
    bind_recursive(root, root).map_err(step("bind the rootfs"))?;
    let plain = BindSpec::default();
    mount_into(root, Path::new("/proc"), "/proc", MsFlags::MS_PRIVATE, &plain)?;
    if spec.privileged {
        mount_into(root, Path::new("/dev"), "/dev", MsFlags::MS_PRIVATE, &plain)?;
    } else if spec.tools {
        for name in PLAIN_DEVICES {
            let device = format!("/dev/{name}");
            mount_into(root, Path::new(&device), &device, MsFlags::MS_PRIVATE, &plain)?;
        }
    }
    if spec.tools {
        mount_into(root, Path::new("/usr"), "/usr", MsFlags::MS_PRIVATE, &plain)?;
    }
    for bind in std::iter::once(volume).chain(&spec.volumes[1..]) {
        let source = Path::new(&bind.source);
        mount_into(root, source, &bind.destination, flag_of(bind.propagation), &bind.how)?;
    }
    chdir(root).map_err(step("enter the rootfs"))?;
    // `/` stays private, as with runc 1.1.15 to 1.2.6 and 1.3.0. Older ones leave it a slave of the
    // rootfs' mount, and so does 1.5.2 for HostToContainer; newer ones and crun share it in a group of
    // its own for Bidirectional. No volume can tell (backend-local/tests/side_by_side/roots.rs).
    pivot_into_current_directory().map_err(step("pivot_root"))
}

fn mount_into(
    root: &Path,
    source: &Path,
    destination: &str,
    propagation: MsFlags,
    how: &BindSpec,
) -> Result<(), StartRefused> {
    let target: PathBuf = root.join(destination.trim_start_matches('/'));
    let failed = |errno| {
        refused(
            &format!("error mounting {:?} to rootfs at {destination:?}", source.display()),
            errno,
        )
    };
    if source.is_dir() {
        make_directory(&target).map_err(|errno| match errno {
            // mkdir(2) of what is there and is no directory; runtimes look before they make it.
            Errno::EEXIST => failed(Errno::ENOTDIR),
            errno => failed(errno),
        })?;
    } else if !target.exists() {
        // A file is mounted on a file.
        target.parent().map_or(Ok(()), make_directory).map_err(failed)?;
        fs::write(&target, "").map_err(|e| failed(errno_of(&e)))?;
    }
    match how.recursive {
        true => bind_recursive(source, &target),
        false => bind_alone(source, &target),
    }
    .map_err(failed)?;
    propagate_recursive(&target, propagation).map_err(failed)?;
    match (how.read_only, how.recursive_read_only) {
        (false, _) => Ok(()),
        (true, false) => remount_read_only(&target).map_err(failed),
        (true, true) => read_only(&target).map_err(failed),
    }
}
