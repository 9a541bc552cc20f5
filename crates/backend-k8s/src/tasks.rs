//! Changes in tasks of their own, so that a cancelled caller leaves nothing half done; the clean-up ends these
//! tasks and waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use propagation_core::client::finished;
use propagation_core::{Error, ErrorKind};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one node. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    running: TaskTracker,
    ending: CancellationToken,
    abandoned: Arc<AtomicBool>,
}

/// Remembers that a caller went away, unless it came to the end.
struct Caller<'a>(Option<&'a AtomicBool>);

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        if let Some(abandoned) = self.0 {
            abandoned.store(true, Ordering::SeqCst);
        }
    }
}

impl Tasks {
    /// Does something to its end, also when the caller does not wait for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        what: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.go_on()?;
        let mut caller = Caller(Some(&self.abandoned));
        let result = finished(self.running.spawn(what)).await;
        caller.0 = None;
        result
    }

    /// Whether a task was finished for a cancelled caller, so that its result is unknown.
    pub(crate) fn were_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }

    /// Makes waiting tasks give up, and waits until all tasks have ended.
    pub(crate) async fn end(&self) {
        self.ending.cancel();
        self.running.close();
        self.running.wait().await;
    }

    /// Whether there is still a reason to begin something.
    pub(crate) fn go_on(&self) -> Result<(), Error> {
        if self.ending.is_cancelled() { Err(closed()) } else { Ok(()) }
    }

    /// Waits until there is none any more.
    pub(crate) async fn ending(&self) -> Error {
        self.ending.cancelled().await;
        closed()
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Cancelled, "go on", "the node is being closed")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_what_nobody_waits_for() {
        let tasks = Tasks::default();
        let (of_task, (sender, receiver)) = (tasks.clone(), tokio::sync::oneshot::channel());
        let begun = tasks.run(async move {
            // A request that is on its way, and then a wait without end.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let error = of_task.ending().await;
            let _ = sender.send(());
            Err::<(), _>(error)
        });
        let given_up = tokio::time::timeout(Duration::from_millis(1), begun).await;
        assert!(given_up.is_err() && tasks.were_abandoned(), "the caller goes away");
        tasks.end().await;
        receiver.await.expect("it has come to its end");
        let late = tasks.run(async { Ok(()) }).await.expect_err("nothing begins any more");
        assert_eq!(late.kind(), ErrorKind::Cancelled);
    }
}
