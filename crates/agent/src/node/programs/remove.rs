//! Removing a container, with all its processes.

use nix::sys::signal::Signal;
use propagation_protocol::Reply;

use super::super::outside::ENDS_WITHIN_MS;
use super::super::server::Server;
use super::pending::{Awaited, REMOVE_MS};
use crate::sys::in_ms;

impl Server {
    /// Ends a container; the answer follows when its processes are gone.
    pub(in super::super) fn remove(&mut self, request: u64, id: u32) {
        self.end_holders(id);
        let Some(container) = self.containers.get_mut(&id) else {
            return self.answer(request, Ok(Reply::Done));
        };
        container.removed = true;
        container.kept = None;
        if container.pid().is_none() {
            self.containers.remove(&id);
            return self.answer(request, Ok(Reply::Done));
        }
        // The kernel ends the connection with its daemon, but one that is stuck does not end.
        if container.serves() {
            container.abort_at = Some(in_ms(ENDS_WITHIN_MS));
        }
        if let Err(failure) =
            container.signal(request, Signal::SIGKILL, Awaited::Removal, REMOVE_MS)
        {
            self.answer(request, Err(failure));
        }
    }
}
