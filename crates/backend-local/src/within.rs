//! Waits with a deadline for work that may hang.

use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use propagation_core::client::lock;
use tokio::sync::oneshot;

/// How often a child is looked at where no thread can wait for it.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Whether a child process ends within a time; reaps it then. If no thread can be made at the limit of
/// processes, it polls the child.
pub(crate) async fn ends_within(limit: Duration, process: Child) -> bool {
    let process = Arc::new(Mutex::new(process));
    let waited = Arc::clone(&process);
    let end = Instant::now() + limit;
    if let Some(ended) = within(limit, move || lock(&waited).wait().is_ok()).await {
        return ended;
    }
    while Instant::now() < end {
        if matches!(lock(&process).try_wait(), Ok(Some(_))) {
            return true;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    false
}

/// What `work`, which may block for ever, gives within a time; none when it passes first. The thread
/// is its own: a runtime waits for the threads of its pool when it ends.
pub(crate) async fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    let started = std::thread::Builder::new().name("propagation-wait".into()).spawn(move || {
        // Nobody waits any more: the result is not wanted.
        let _ = sender.send(work());
    });
    started.ok()?;
    tokio::time::timeout(limit, receiver).await.ok()?.ok()
}
