//! Shared by the backends that talk to an agent: calls and their answers, and the reports of programs.
//!
//! A backend brings a [`Connection`], which carries calls, and starts containers in its own way. The rest is here:
//! [`Programs`] knows the containers of a run and takes the events of their programs, [`Clock`] converts the
//! agent's times to the run's, [`NodeClient`] looks and acts on the node, and [`WorkloadClient`] on one workload.
//! [`read`] reads frames, and [`operator`] identifies the process that started the run.

mod clock;
mod frames;
mod lines;
mod node;
pub mod operator;
mod programs;
mod reported;
#[cfg(test)]
mod tests;
mod workload;

use std::error::Error as StdError;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

pub use clock::Clock;
pub use frames::read;
pub use lines::Lines;
pub use node::NodeClient;
pub use programs::{Found, Programs};
pub use reported::{Arrival, Reported, wait};
pub use workload::WorkloadClient;

use crate::error::{Error, ErrorKind};
use crate::protocol::{Call, Failure, Reply};

/// A connection that carries calls to an agent.
#[async_trait]
pub trait Connection: Send + Sync {
    /// Sends a call and waits for its answer, or for the failure that the agent reports. When the future is dropped
    /// the call may still be carried out; its answer is discarded.
    ///
    /// # Errors
    /// [`ErrorKind::Disconnected`] when the agent has gone.
    async fn call(&self, call: Call) -> Result<Result<Reply, Failure>, Error>;

    /// Error for an agent whose message this program does not understand.
    fn other_version(&self, detail: &str) -> Error;
}

/// Locks a mutex that only short code without panics holds.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Result of a spawned task, which goes on when its caller stops waiting.
///
/// # Errors
/// The error of the task; [`ErrorKind::Internal`] when it has panicked.
pub async fn finished<T, E: StdError + Send + Sync + 'static>(
    task: impl Future<Output = Result<Result<T, Error>, E>>,
) -> Result<T, Error> {
    task.await.unwrap_or_else(|error| {
        Err(Error::from_source(ErrorKind::Internal, "wait for a task", error))
    })
}
