//! The user namespace that lets an ordinary user have a node.
#![allow(unsafe_code)] // fork

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Uid, getpid};
use propagation_model::ErrorKind;
use propagation_protocol::Failure;

use crate::failure::{errno_text, failure, system};
use crate::pipe::Pipe;
use crate::sys::{Fork, exit_now, fork};

/// How many user ids beside 0 a node needs to run and read as another user.
const RANGE: u32 = 65_536;

/// Enters a new user namespace in which the caller is root. With newuidmap and a range in
/// /etc/subuid other users exist in it too; without, only root does.
pub(super) fn enter() -> Result<(), Failure> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let ranges = sub_range("/etc/subuid", uid).zip(sub_range("/etc/subgid", uid));
    // The helper that maps has to stay outside.
    let mapper = ranges.and_then(|ranges| Mapper::start(uid, gid, ranges).ok());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(refused)?;
    if mapper.is_some_and(Mapper::map) {
        return Ok(());
    }
    let write = |path: &str, text: String| {
        fs::write(path, text)
            .map_err(|e| system(format!("write {path}"), crate::mounts::errno_of(&e)))
    };
    write("/proc/self/setgroups", "deny".into())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Whether the namespace's root can mount: AppArmor may have taken its capabilities away.
pub(super) fn check_powers() -> Result<(), Failure> {
    match unshare(CloneFlags::CLONE_NEWNS) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM | Errno::EACCES) => Err(refused(Errno::EPERM)),
        Err(errno) => Err(system("make a mount namespace", errno)),
    }
}

/// Which switch forbids it.
fn refused(errno: Errno) -> Failure {
    let is =
        |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let fix = if is("/proc/sys/user/max_user_namespaces", "0") {
        "sysctl -w user.max_user_namespaces=10000 (it is 0), or run as root"
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "sysctl -w kernel.unprivileged_userns_clone=1 (it is 0), or run as root"
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (AppArmor restricts user \
         namespaces here), or run as root"
    } else if errno == Errno::ENOSPC {
        "raise user.max_user_namespaces (sysctl), or run as root"
    } else {
        "run as root; in a container allow unshare(2) in its seccomp profile; in a chroot only root \
         can have a node"
    };
    failure(ErrorKind::Environment, "make a user namespace", errno_text(errno), Some(fix))
}

/// The first range of subordinate ids of a user in a file of the form `name:start:count`.
fn sub_range(path: &str, uid: Uid) -> Option<(u32, u32)> {
    let name = user_name(uid);
    let own = |who: &str| who == uid.to_string() || name.as_deref() == Some(who);
    fs::read_to_string(path).ok()?.lines().find_map(|line| {
        let mut fields = line.split(':');
        let who = fields.next()?;
        let (start, count) = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        own(who).then_some((start, count))
    })
}

fn user_name(uid: Uid) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    })
}

/// A child outside the new namespace that runs newuidmap and newgidmap for it.
struct Mapper {
    pid: nix::unistd::Pid,
    pipe: Pipe,
}

impl Mapper {
    fn start(uid: Uid, gid: Gid, ranges: ((u32, u32), (u32, u32))) -> Result<Self, Errno> {
        let (newuidmap, newgidmap) = ("/usr/bin/newuidmap", "/usr/bin/newgidmap");
        if !Path::new(newuidmap).exists() || !Path::new(newgidmap).exists() {
            return Err(Errno::ENOENT);
        }
        let target = getpid().to_string();
        let (ours, mut theirs) = Pipe::pair()?;
        // SAFETY: there is one thread here, as wherever the agent forks.
        match unsafe { fork() }? {
            Fork::Parent(pid) => Ok(Self { pid, pipe: ours }),
            Fork::Child => {
                drop(ours);
                let told = matches!(theirs.receive::<bool>(), Ok(Some(true)));
                let run = |program: &str, own: u32, (start, count): (u32, u32)| {
                    let count = count.min(RANGE).to_string();
                    Command::new(program)
                        .args([
                            &target,
                            "0",
                            &own.to_string(),
                            "1",
                            "1",
                            &start.to_string(),
                            &count,
                        ])
                        .stdin(Stdio::null())
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .status()
                        .is_ok_and(|status| status.success())
                };
                let mapped = told
                    && run(newuidmap, uid.as_raw(), ranges.0)
                    && run(newgidmap, gid.as_raw(), ranges.1);
                exit_now(i32::from(!mapped))
            }
        }
    }

    /// Maps the namespace that the caller has entered; returns whether it worked.
    fn map(self) -> bool {
        self.pipe.send(&true).is_ok()
            && matches!(waitpid(self.pid, None), Ok(WaitStatus::Exited(_, 0)))
    }
}
