//! Releases processes that no signal ends: those that wait in the kernel for the answer of a FUSE daemon, which may be
//! themselves.

use std::io::Write as _;

use nix::unistd::Pid;
use propagation_protocol::Failure;

use super::line;
use super::state::Host;
use crate::child::Child;
use crate::failure::system;
use crate::node::{abort, open_below};

impl Host {
    /// Aborts the FUSE connections that the run has mounted on the node, and those that some of its processes serve.
    /// They are to end: nothing is lost. A child does it, which is not waited for.
    pub(super) fn release(&self, pids: &[i32]) -> Result<(), Failure> {
        let processes: Vec<Pid> = pids.iter().copied().map(Pid::from_raw).collect();
        let mut minors = open_below(&self.proc, &processes);
        let table = self.proc.mount_table()?;
        let own = table.iter().filter(|mount| mount.is_fuse() && self.is_own(mount));
        minors.extend(own.map(|mount| mount.device.minor));
        if minors.is_empty() {
            return Ok(());
        }
        let child = Child::start(|_| {
            let words = abort(&minors).unwrap_or_else(|failure| line(&failure));
            let _ = writeln!(std::io::stderr(), "processes {pids:?} do not end: {words}");
        });
        child.map(drop).map_err(|errno| system("start a child", errno))
    }
}
