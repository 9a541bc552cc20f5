//! Workloads that are processes of the node itself, as services of an init system are. They end with the agent.
#![allow(unsafe_code)] // fork, and numbers of descriptors after it

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use propagation_model::plan::Role;
use propagation_protocol::host::{HostMessage, ProgramId, ProgramOrders};
use propagation_protocol::{ContainerSpec, Failure, ProgramEvent};

use super::processes::Process;
use super::program::carry_out;
use super::state::Host;
use crate::failure::{errno_text, system};
use crate::pipe::Pipe;
use crate::reporter::Reporter;
use crate::sys::{Fork, exit_now, fork_into_pid_namespace, keep_only};
use crate::user::become_user;

impl Host {
    /// Starts the programs of workloads that have no pod, and says so.
    pub(super) fn start_here(&mut self, containers: &[ContainerSpec]) -> Result<(), Failure> {
        for spec in containers.iter().filter(|spec| spec.host) {
            for replica in 0..spec.replicas {
                let program = ProgramId { container: spec.id, replica };
                let failed = |errno| system(format!("start the program of {}", spec.name), errno);
                let process = self.fork_program(program, spec).map_err(failed)?;
                let Process { process_ns, came_ns, .. } = process;
                self.programs.runs_here(program, process, spec.clone());
                self.session.send(HostMessage::Arrived { program, process_ns, came_ns });
            }
        }
        Ok(())
    }

    fn fork_program(&self, program: ProgramId, spec: &ContainerSpec) -> Result<Process, Errno> {
        let (ours, theirs) = Pipe::pair()?;
        // SAFETY: there is one thread here, as wherever the agent forks.
        match unsafe { fork_into_pid_namespace() }? {
            Fork::Parent(pid) => Process::started_here(pid.as_raw(), ours, &self.proc),
            Fork::Child => {
                // SAFETY: what this process was born with is the agent's, and it never returns there.
                let kept = unsafe { keep_only([theirs.as_fd()]) };
                // Its number is closed with all others, and must not be closed again.
                std::mem::forget((ours, theirs));
                let Ok([pipe]) = kept else { exit_now(1) };
                let reporter = Reporter::to_node(Pipe::new(pipe));
                let orders = ProgramOrders { container: spec.clone(), takes_over: None };
                let code = become_program(spec).and_then(|()| {
                    carry_out(program.replica, &orders, &self.source(), None, &reporter)
                });
                exit_now(code.unwrap_or_else(|errno| {
                    let text = format!("become a process of the node: {}", errno_text(errno));
                    reporter.event(&ProgramEvent::Failed { text });
                    1
                }))
            }
        }
    }
}

/// Ends with the agent, and goes on as the workload's user.
fn become_program(spec: &ContainerSpec) -> Result<(), Errno> {
    SigSet::all().thread_unblock()?;
    if !spec.user.is_plain_root() {
        become_user(&spec.user)?;
    }
    // The kernel forgets it when the user changes.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // A producer that is not root mounts through fusermount3, which is set-uid.
    if spec.role != Role::Producer || spec.user.uid == 0 {
        prctl::set_no_new_privs()?;
    }
    Ok(())
}
