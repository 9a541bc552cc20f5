//! The mount namespace of a runtime that lives apart from the node.
#![allow(unsafe_code)] // fork

use mountinfo::MountPropagation;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::getpid;
use propagation_model::plan::{RuntimeNamespace, RuntimeSpec};
use propagation_protocol::Failure;

use crate::child::Child;
use crate::failure::system;
use crate::mounts::{Proc, propagate_recursive};
use crate::pipe::Pipe;
use crate::sys::{Fork, exit_now, fork};
use crate::view::View;

/// Moves the calling process into a user namespace of its own, in which every id of the present one
/// means itself.
pub(super) fn enter_user_namespace(proc: &Proc) -> Result<(), Errno> {
    let map = proc.read("self/uid_map")?;
    let groups = proc.read("self/gid_map")?;
    let identity = |map: &[u8]| -> String {
        let text = String::from_utf8_lossy(map);
        let range = |line: &str| -> Option<String> {
            let mut fields = line.split_whitespace();
            let (inside, _, count) = (fields.next()?, fields.next()?, fields.next()?);
            Some(format!("{inside} {inside} {count}\n"))
        };
        text.lines().filter_map(range).collect()
    };
    let (users, groups) = (identity(&map), identity(&groups));
    let target = getpid();
    let (ours, mut theirs) = Pipe::pair()?;
    // SAFETY: there is one thread here, as wherever the agent forks.
    match unsafe { fork() }? {
        Fork::Child => {
            drop(ours);
            let told = matches!(theirs.receive::<bool>(), Ok(Some(true)));
            let write = |name: &str, text: &str| {
                proc.write(&format!("{target}/{name}"), text.as_bytes()).is_ok()
            };
            let mapped = told && write("uid_map", &users) && write("gid_map", &groups);
            exit_now(i32::from(!mapped))
        }
        Fork::Parent(pid) => {
            drop(theirs);
            let entered = unshare(CloneFlags::CLONE_NEWUSER);
            let _ = ours.send(&entered.is_ok());
            let mapped = matches!(waitpid(pid, None), Ok(WaitStatus::Exited(_, 0)));
            entered?;
            if mapped { Ok(()) } else { Err(Errno::EPERM) }
        }
    }
}

/// Makes the mount namespace of a runtime that lives apart from the node.
pub(super) fn make_runtime(spec: &RuntimeSpec, proc: &Proc) -> Result<Option<View>, Failure> {
    if !spec.is_apart() {
        return Ok(None);
    }
    let failed = |errno| system("make the runtime's mount namespace", errno);
    let mut child = Child::start(|pipe| {
        let made = become_runtime(spec, proc).and_then(|view| {
            pipe.send_descriptors(&view.into_descriptors())?;
            Ok(())
        });
        let _ = pipe.send(&made.map_err(|errno| errno as i32));
    })
    .map_err(failed)?;
    let made = child.pipe.receive::<Result<(), i32>>();
    let _ = waitpid(child.pid, None);
    match made.map_err(failed)? {
        Some(Ok(())) => {}
        Some(Err(errno)) => return Err(failed(Errno::from_raw(errno))),
        None => return Err(failed(Errno::ECHILD)),
    }
    let mount = child.pipe.take_descriptor().ok_or_else(|| failed(Errno::EMFILE))?;
    Ok(Some(View { mount, user: child.pipe.take_descriptor() }))
}

fn become_runtime(spec: &RuntimeSpec, proc: &Proc) -> Result<View, Errno> {
    use nix::mount::MsFlags;
    if spec.user_namespace {
        enter_user_namespace(proc)?;
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    let root = std::path::Path::new("/");
    match spec.namespace {
        RuntimeNamespace::Host | RuntimeNamespace::Shared => {}
        RuntimeNamespace::Slave => propagate_recursive(root, MsFlags::MS_SLAVE)?,
        RuntimeNamespace::SlaveShared => {
            propagate_recursive(root, MsFlags::MS_SLAVE)?;
            propagate_recursive(root, MsFlags::MS_SHARED)?;
        }
        RuntimeNamespace::Private => propagate_recursive(root, MsFlags::MS_PRIVATE)?,
    }
    // Rootless engines share their mounts among their own containers.
    if spec.user_namespace && spec.namespace == RuntimeNamespace::Host {
        propagate_recursive(root, MsFlags::MS_SHARED)?;
    }
    if spec.user_namespace { View::current_with_user(proc) } else { View::current(proc) }
}

/// The view that a container's maker holds when the container is finished.
pub(super) fn finished(proc: &Proc, with_user: bool) -> Result<View, Errno> {
    if with_user { View::current_with_user(proc) } else { View::current(proc) }
}

/// Whether a volume of this propagation can be on a mount: containerd's check.
pub(super) fn carries(
    mount: MountPropagation,
    volume: propagation_model::plan::Propagation,
) -> Result<(), &'static str> {
    use propagation_model::plan::Propagation;
    let shared = matches!(mount, MountPropagation::Shared | MountPropagation::SlaveAndShared);
    match volume {
        Propagation::None => Ok(()),
        Propagation::HostToContainer if shared || mount == MountPropagation::Slave => Ok(()),
        Propagation::HostToContainer => Err("a shared or slave mount"),
        Propagation::Bidirectional if shared => Ok(()),
        Propagation::Bidirectional => Err("a shared mount"),
    }
}
