//! The peer of a connection: the process that the kubelet has started in a pod of the run, or a stranger, which
//! gets no orders.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mountinfo::MountPath;
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials, sockopt::PeerPidfd};
use propagation_protocol::host::{Layout, ProgramHello};
use rustix::process::{PidfdFlags, pidfd_open};

use super::processes::{Process, has_ended};
use crate::facts::made_at_ns;
use crate::mounts::{Proc, parse, to_nix};
use crate::pipe::Pipe;
use crate::sys::{in_ms, now_ns};
use crate::view::View;

/// Time for a peer to say who it is, after it has connected.
const GREETS_WITHIN_MS: u64 = 5_000;

/// Time that a peer may stay unknown after that: the backend announces a pod as soon as it is made.
const KNOWN_WITHIN_MS: u64 = 30_000;

/// Where control groups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The pod of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pod {
    /// Its uid.
    pub(super) uid: String,
    /// What its spec alone has.
    pub(super) secret: String,
    /// Whether it has its own user namespace.
    pub(super) user_namespace: bool,
}

/// A process that has connected.
#[derive(Debug)]
pub(super) struct Peer {
    pipe: Pipe,
    pid: i32,
    /// Ready when it has ended.
    handle: OwnedFd,
    /// When it connected.
    came_ns: u64,
    /// The identity that it claims.
    pub(super) hello: Option<ProgramHello>,
    deadline: u64,
}

impl Peer {
    /// Gets a handle on the connected process, before any of its claims is believed.
    pub(super) fn of(pipe: Pipe) -> Result<Self, Errno> {
        let pid = getsockopt(&pipe, PeerCredentials)?.pid();
        let handle = match getsockopt(&pipe, PeerPidfd) {
            // Linux before 6.5.
            Err(Errno::ENOPROTOOPT) => {
                let id = rustix::process::Pid::from_raw(pid).ok_or(Errno::ESRCH)?;
                pidfd_open(id, PidfdFlags::empty()).map_err(to_nix)?
            }
            handle => handle?,
        };
        let deadline = in_ms(GREETS_WITHIN_MS);
        Ok(Self { pipe, pid, handle, came_ns: now_ns(), hello: None, deadline })
    }

    /// The process itself, once it has been checked.
    pub(super) fn into_process(self, pod: &Pod, proc: &Proc) -> Result<Process, Errno> {
        let Self { pipe, pid, handle, came_ns, .. } = self;
        let namespace = |kind: &str| proc.open_file(&format!("{pid}/ns/{kind}"));
        let user = pod.user_namespace.then(|| namespace("user")).transpose()?;
        let view = View { mount: namespace("mnt")?, user };
        let process_ns = made_at_ns(proc, pid).unwrap_or(came_ns).min(came_ns);
        let (pipe, said_its_end, is_here) = (pipe.trusted(), false, false);
        Ok(Process { pid, handle, view, pipe, process_ns, came_ns, said_its_end, is_here })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// When it is given up.
    pub(super) fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Reads what the peer says; returns whether it may stay. After its greeting a peer is silent until it gets
    /// orders.
    pub(super) fn listen(&mut self) -> bool {
        let open = self.pipe.fill(false).unwrap_or(false);
        if self.hello.is_none() {
            match self.pipe.next::<ProgramHello>() {
                Ok(Some(hello)) => {
                    self.hello = Some(hello);
                    self.deadline = in_ms(KNOWN_WITHIN_MS);
                }
                Ok(None) => {}
                Err(_) => return false,
            }
        }
        open && !(self.hello.is_some() && self.pipe.has_more()) && now_ns() < self.deadline
    }

    /// Makes sure that it is the program of a pod.
    ///
    /// # Errors
    /// The condition that does not hold, in words.
    pub(super) fn check(&self, pod: &Pod, layout: &Layout, proc: &Proc) -> Result<(), String> {
        let refuse = |why: &str| Err(format!("process {} {why}", self.pid));
        if self.hello.as_ref().is_none_or(|hello| hello.secret != pod.secret) {
            return refuse("does not have the secret of the pod");
        }
        let of_it = |name: &str| {
            let text = proc.read(&format!("{}/{name}", self.pid));
            text.map(|text| String::from_utf8_lossy(&text).into_owned())
                .map_err(|errno| format!("/proc/{}/{name}: {}", self.pid, errno.desc()))
        };
        if !is_in_pod(&of_it("cgroup")?, &pod.uid, Path::new(CGROUPS)) {
            return refuse(&format!("is in no control group of pod {}", pod.uid));
        }
        if !is_process_1_below(&of_it("status")?) {
            return refuse("is not process 1 of a container");
        }
        let same = |kind: &str| {
            let identity = |of: &str| proc.identity(&format!("{of}/ns/{kind}"));
            match (identity(&self.pid.to_string()), identity("self")) {
                (Ok(its), Ok(own)) => Ok(its == own),
                (Err(errno), _) | (_, Err(errno)) => {
                    Err(format!("the {kind} namespace of process {}: {}", self.pid, errno.desc()))
                }
            }
        };
        match (same("user")?, pod.user_namespace) {
            (true, false) | (false, true) => {}
            (false, false) => return refuse("is in a user namespace of its own"),
            (true, true) => return refuse("is in the user namespace of the node"),
        }
        if same("mnt")? {
            return refuse("is in the mount namespace of the node");
        }
        if !has_files_of_run(&of_it("mountinfo")?, layout) {
            return refuse("does not have the files of the run where its pod has them");
        }
        // The number was this process's all the time.
        if has_ended(&self.handle) { refuse("has ended") } else { Ok(()) }
    }
}

/// Whether a process with this /proc/PID/cgroup is in a control group of a pod. All of the way there is
/// root's: users may have groups of any name below one that is given to them.
fn is_in_pod(text: &str, uid: &str, root: &Path) -> bool {
    let (plain, slice) = (format!("pod{uid}"), format!("-pod{}.slice", uid.replace('-', "_")));
    let lines: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'))
        .filter(|(controllers, _)| !controllers.starts_with("name="))
        .collect();
    // Where there are controllers of version 1 the unified hierarchy has none.
    let legacy = lines.iter().any(|(controllers, _)| !controllers.is_empty());
    lines.iter().filter(|(controllers, _)| controllers.is_empty() != legacy).any(|line| {
        let (controllers, path) = *line;
        let mut way = root.join(controllers);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            way.push(name);
            if !fs::metadata(&way).is_ok_and(|there| there.uid() == 0) {
                return false;
            }
            if name == plain || name.ends_with(&slice) {
                return true;
            }
        }
        false
    })
}

/// Whether a process with this /proc/PID/status is process 1 of a pid namespace below.
fn is_process_1_below(status: &str) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    ids.len() > 1 && ids.last() == Some(&"1")
}

/// Whether the directory of the run is mounted where pods have it.
fn has_files_of_run(mountinfo: &str, layout: &Layout) -> bool {
    let directory = layout.directory();
    let run = directory.rsplit_once('/').map_or(directory, |(_, run)| run);
    parse(mountinfo.as_bytes()).is_ok_and(|table| {
        let inside = Layout::inside();
        let mount = table.at(&MountPath::from(inside.directory()));
        mount.is_some_and(|mount| mount.root.to_string_lossy().ends_with(&format!("/{run}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f0e1d2c-1111-2222-3333-444455556666";

    /// A tree of control groups; those in `of_user` are a user's.
    fn groups(paths: &[&str], of_user: &[&str]) -> std::path::PathBuf {
        let name = format!("groups-{}-{}", std::process::id(), now_ns());
        let root = std::env::temp_dir().join(name);
        for path in paths {
            fs::create_dir_all(root.join(path)).expect("a directory");
        }
        for path in of_user {
            std::os::unix::fs::chown(root.join(path), Some(65534), None)
                .expect("tests run as root");
        }
        root
    }

    #[test]
    fn a_control_group_of_the_pod_is_known_by_its_uid() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let slice = "kubepods.slice/kubepods-burstable.slice/\
                     kubepods-burstable-pod0f0e1d2c_1111_2222_3333_444455556666.slice/cri-1.scope";
        let plain = format!("kubepods/besteffort/pod{UID}/1");
        let (in_memory, of_user) = (format!("memory/{plain}"), format!("user.slice/pod{UID}"));
        let root = groups(&[slice, &plain, &in_memory, &of_user], &[&of_user]);
        let is = |text: &str| is_in_pod(text, UID, &root);
        assert!(is(&format!("0::/{slice}\n")));
        assert!(is(&format!("0::/{plain}\n")));
        assert!(is(&format!("4:memory:/{plain}\n1:name=systemd:/x\n0::/\n")));
        assert!(!is(&format!("0::/{of_user}\n")), "a user may call a group so");
        assert!(!is(&format!("4:memory:/\n1:name=systemd:/{plain}\n0::/{plain}\n")));
        assert!(!is("0::/kubepods/besteffort/pod1/1\n") && !is("") && !is("nonsense"));
        fs::remove_dir_all(root).expect("clean up");
    }

    #[test]
    fn process_1_of_a_container_has_another_number_above() {
        assert!(is_process_1_below("Name:\tagent\nNSpid:\t4711\t1\n"));
        assert!(!is_process_1_below("NSpid:\t4711\t17\n"));
        assert!(!is_process_1_below("NSpid:\t1\n"), "the node's own");
        assert!(!is_process_1_below(""));
    }

    #[test]
    fn the_files_of_the_run_are_mounted_where_pods_have_them() {
        let layout = Layout::on_node("r1");
        let table = |root: &str| {
            format!("1 0 8:1 / / rw - ext4 a rw\n2 1 8:1 {root} /run/propagation ro - ext4 a rw\n")
        };
        assert!(has_files_of_run(&table("/var/lib/propagation/r1"), &layout));
        assert!(!has_files_of_run(&table("/var/lib/propagation/r2"), &layout));
        assert!(!has_files_of_run("1 0 8:1 / / rw - ext4 a rw\n", &layout));
    }
}
