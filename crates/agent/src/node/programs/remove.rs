//! Ending a container, with all its processes.

use nix::sys::signal::Signal;
use propagation_protocol::Failure;

use super::super::outside::ENDS_WITHIN_MS;
use super::Container;
use super::pending::{Awaited, REMOVE_MS};
use crate::sys::in_ms;

impl Container {
    /// Kills the container; the answer follows when its processes are gone. Returns false when there are none.
    pub(in super::super) fn begin_removal(&mut self, request: u64) -> Result<bool, Failure> {
        self.removed = true;
        self.kept = None;
        if self.pid().is_none() {
            return Ok(false);
        }
        // The kernel ends the connection with its daemon, but one that is stuck does not end.
        if self.serves() {
            self.abort_at = Some(in_ms(ENDS_WITHIN_MS));
        }
        self.signal(request, Signal::SIGKILL, Awaited::Removal, REMOVE_MS)?;
        Ok(true)
    }
}
