//! Hands the mount of a dead daemon over to a successor.
#![allow(unsafe_code)] // the number of a descriptor

use propagation_model::ErrorKind;
use propagation_model::marker::Marker;
use propagation_protocol::Failure;

use super::super::role::producer_of;
use super::Container;
use super::program::{KEPT, Program};
use crate::failure::{failure, system};

impl Container {
    /// Starts a successor on the descriptor that is kept.
    pub(in super::super) fn hand_over(&mut self, marker: &Marker) -> Result<(), Failure> {
        let operation = format!("hand over the mount of {}", self.spec.name);
        let refuse = |kind, reason: &str| Err(failure(kind, operation.clone(), reason, None));
        if self.pid().is_some() {
            return refuse(ErrorKind::Environment, "its daemon lives");
        }
        let Some(keeper) = &mut self.kept else {
            return refuse(ErrorKind::Unsupported, "nothing is kept for it");
        };
        let Some(view) = self.views.first() else {
            return refuse(ErrorKind::Environment, "its container is gone");
        };
        let (device, init) =
            keeper.take_copy().map_err(|errno| system(operation.clone(), errno))?;
        self.spec.marker = marker.clone();
        let producer = producer_of(&self.spec, &self.source);
        let program = Program::start(&self.spec, view, Some(&device), |reporter| {
            // SAFETY: the new process has been given it, and nothing in it owns it yet.
            match unsafe { crate::sys::adopt(KEPT) } {
                Ok(device) => producer.take_over(device, init, reporter),
                Err(_) => 1,
            }
        })?;
        self.program = Some(program);
        Ok(())
    }
}
