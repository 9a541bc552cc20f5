//! Runs a case so that it ends: in its own thread, with a deadline inside for waiting and one outside for
//! blocking.

use std::future::Future;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How much longer the thread may take than the deadline inside: for closing the nodes.
const GRACE: Duration = Duration::from_secs(30);

/// How long a runtime's blocking tasks may go on after its work.
const RUNTIME_END: Duration = Duration::from_secs(1);

/// Runs `work` on a runtime of its own and returns what it gives.
///
/// # Errors
/// When it panics, or has not ended some time after `deadline`; its thread is then left behind.
pub(crate) fn watch<T, Work, Doing>(deadline: Duration, work: Work) -> Result<T, String>
where
    T: Send + 'static,
    Work: FnOnce() -> Doing + Send + 'static,
    Doing: Future<Output = T>,
{
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new().name("case".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("make a runtime: {error}"));
        let result = runtime.map(|runtime| {
            let result = runtime.block_on(work());
            runtime.shutdown_timeout(RUNTIME_END);
            result
        });
        // Nobody listens to a case that was given up.
        let _ = sender.send(result);
    });
    let thread = thread.map_err(|error| format!("start a thread: {error}"))?;
    let limit = deadline.saturating_add(GRACE);
    match receiver.recv_timeout(limit) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Err(format!("its thread is blocked: no end {} s after the start", limit.as_secs()))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(match thread.join() {
            Ok(()) => "it ended without a result".into(),
            Err(panic) => format!("it panicked: {}", words(&*panic)),
        }),
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        let result = watch(Duration::from_secs(1), || async { panic!("so it is") });
        assert_eq!(result, Err::<(), _>("it panicked: so it is".into()));
    }

    #[test]
    fn what_is_given_comes_back() {
        assert_eq!(watch(Duration::from_secs(1), || async { 7 }), Ok(7));
    }
}
