//! Waiting for what may block for ever.

use std::time::Duration;

use tokio::sync::oneshot;

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
