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
    /// Aborts the FUSE connections that some processes of the run serve, and with `all` those that the run has mounted on
    /// the node: all its programs are to end then, and nothing is lost. A child does it, which is not waited for.
    pub(super) fn release(&self, pids: &[i32], all: bool) -> Result<(), Failure> {
        let processes: Vec<Pid> = pids.iter().copied().map(Pid::from_raw).collect();
        let mut minors = open_below(&self.proc, &processes);
        if all {
            let table = self.proc.mount_table()?;
            // The number of a mount of a block device is not that of its connection.
            let own = table
                .iter()
                .filter(|mount| mount.is_fuse() && mount.device.major == 0 && self.is_own(mount));
            minors.extend(own.map(|mount| mount.device.minor));
        }
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
