//! Signals that interrupt a run.

use propagation_core::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Cancels at the first SIGINT, SIGTERM or SIGHUP. Everything is cleaned up before the program ends;
/// were it killed instead, its node would end all the same. The signals are caught from the moment
/// this returns.
#[cfg(unix)]
pub(crate) fn cancel_on_signal(cancellation: CancellationToken) -> Result<JoinHandle<()>, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Error::from_source(
                propagation_core::ErrorKind::Environment,
                "listen for signals",
                error,
            )
        })
    };
    let mut signals = vec![listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?];
    // nohup(1) has asked that a terminal which goes away does not matter.
    if !hangup_is_ignored() {
        signals.push(listen(SignalKind::hangup())?);
    }
    Ok(tokio::spawn(async move {
        first(&mut signals).await;
        cancellation.cancel();
        // A second one does not wait for the cleaning: the node ends with this process anyway.
        first(&mut signals).await;
        std::process::exit(130);
    }))
}

/// Waits for the first of these signals.
#[cfg(unix)]
async fn first(signals: &mut [tokio::signal::unix::Signal]) {
    let waiting = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
    futures_util::future::select_all(waiting).await;
}

/// Whether this program was started with SIGHUP ignored; where /proc does not tell, it was not.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Bit 0 is signal 1, SIGHUP.
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// Cancels at the first Ctrl-C.
#[cfg(not(unix))]
pub(crate) fn cancel_on_signal(cancellation: CancellationToken) -> Result<JoinHandle<()>, Error> {
    Ok(tokio::spawn(async move {
        // Without a handler the system ends the program, which ends its node.
        let _ = tokio::signal::ctrl_c().await;
        cancellation.cancel();
    }))
}
