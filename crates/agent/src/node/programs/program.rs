//! The program of a container: started in its namespaces, as its user, without anything of the node's.
#![allow(unsafe_code)] // fork, and numbers of descriptors after it

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, kill};
use nix::unistd::Pid;
use propagation_model::plan::Role;
use propagation_protocol::{ContainerSpec, Failure, ProgramEvent};

use super::super::capabilities::drop_all_but;
use super::super::made::Process;
use super::super::oci::inside::Told;
use crate::failure::{errno_text, system};
use crate::pipe::Pipe;
use crate::reporter::Reporter;
use crate::sys::{Fork, exit_now, fork_into_pid_namespace, keep_only};
use crate::user::become_user;
use crate::view::View;

/// The number of the descriptor that a program is given, behind that of its pipe.
pub(super) const KEPT: i32 = 4;

/// Process 1 of a container, and the way to it.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) pid: Pid,
    pub(super) pipe: Pipe,
    pub(super) running: bool,
}

impl Program {
    /// Gives the process of a container its role.
    pub(super) fn tell(
        spec: &ContainerSpec,
        process: Process,
        source: &str,
    ) -> Result<Self, Failure> {
        let told = Told { container: spec.clone(), source: source.to_owned() };
        let Process { pid, pipe } = process;
        match pipe.send(&told) {
            Ok(()) => Ok(Self { pid, pipe, running: true }),
            // It has ended, and will be reaped; if it has been, nobody would learn of it.
            Err(Errno::EPIPE) if kill(pid, None).is_ok() => Ok(Self { pid, pipe, running: true }),
            Err(errno) => Err(system(format!("start the program of {}", spec.name), errno)),
        }
    }

    /// Starts a program; a descriptor that it is to have gets the number [`KEPT`].
    pub(super) fn start(
        spec: &ContainerSpec,
        view: &View,
        keep: Option<&OwnedFd>,
        run: impl FnOnce(&Reporter) -> i32,
    ) -> Result<Self, Failure> {
        let failed = |errno| system(format!("start the program of {}", spec.name), errno);
        let (ours, theirs) = Pipe::pair().map_err(failed)?;
        // SAFETY: there is one thread here, as wherever the agent forks.
        match unsafe { fork_into_pid_namespace() }.map_err(failed)? {
            Fork::Parent(pid) => Ok(Self { pid, pipe: ours, running: true }),
            Fork::Child => {
                let mut reporter = Reporter::to_node(theirs);
                let code = match become_program(spec, view, &mut reporter, keep) {
                    Ok(()) => run(&reporter),
                    Err(errno) => {
                        let text = format!("enter the container: {}", errno_text(errno));
                        reporter.event(&ProgramEvent::Failed { text });
                        1
                    }
                };
                exit_now(code)
            }
        }
    }
}

/// Enters the container's namespaces, drops what belongs to the node, becomes the user. Whatever fails, the
/// reporter can tell.
fn become_program(
    spec: &ContainerSpec,
    view: &View,
    reporter: &mut Reporter,
    keep: Option<&OwnedFd>,
) -> Result<(), Errno> {
    const REPORT: i32 = 3;
    view.enter()?;
    let pipe = reporter.node().ok_or(Errno::EBADF)?.as_fd();
    let report = match keep {
        Some(kept) => {
            // SAFETY: what this process was born with belongs to the node, and it never returns there.
            let [report, kept] = unsafe { keep_only([pipe, kept.as_fd()]) }?;
            // Its program adopts it by its number.
            std::mem::forget(kept);
            report
        }
        None => {
            // SAFETY: as above.
            let [report] = unsafe { keep_only([pipe]) }?;
            report
        }
    };
    // The numbers of the old one are closed with all others, and must not be closed again.
    std::mem::forget(std::mem::replace(reporter, Reporter::to_node(Pipe::new(report))));
    SigSet::all().thread_unblock()?;
    // The name is for people who look at `ps`.
    if let Ok(name) = std::ffi::CString::new(spec.name.as_str()) {
        let _ = prctl::set_name(&name);
    }
    if !spec.privileged && !spec.host && spec.role == Role::Producer {
        drop_all_but(&spec.capabilities)?;
    }
    if !spec.user.is_plain_root() {
        become_user(&spec.user)?;
    }
    // A producer that is not root mounts through fusermount3, which is set-uid.
    if spec.role != Role::Producer || spec.user.uid == 0 {
        prctl::set_no_new_privs()?;
    }
    crate::sys::close_on_exec_from(REPORT);
    Ok(())
}
