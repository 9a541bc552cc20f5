//! What signals ask of a run: to end, and then to end at once.

use propagation_backend_k8s::K8sBackend;
use propagation_core::{Error, ErrorKind};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What a run is told when it is interrupted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interruption {
    /// To end, and to clean up.
    pub(crate) run: CancellationToken,
    /// Not to wait for the clean-up any more.
    pub(crate) clean_up: CancellationToken,
}

impl Interruption {
    /// Cancels the run at the first signal, the wait for its clean-up at the second.
    pub(crate) fn by_signals(&self) -> Result<JoinHandle<()>, Error> {
        cancel_on_signals([self.run.clone(), self.clean_up.clone()])
    }

    /// Waits for nodes that were being opened when the run was interrupted: they are opened to the end, and closed.
    pub(crate) async fn settle(&self, backend: &K8sBackend) {
        tokio::select! {
            () = backend.settle() => {}
            () = self.clean_up.cancelled() => {}
        }
    }
}

/// Cancels one token after the other at each SIGINT, SIGTERM or SIGHUP; one more ends the program. Everything is
/// cleaned up before the program ends; were it killed instead, a simulated node would end all the same. The
/// signals are caught from the moment this returns.
#[cfg(unix)]
pub(crate) fn cancel_on_signals<const N: usize>(
    tokens: [CancellationToken; N],
) -> Result<JoinHandle<()>, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Error::from_source(ErrorKind::Environment, "listen for signals", error)
        })
    };
    let mut signals = vec![listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?];
    // nohup(1) has asked that a terminal which goes away does not matter.
    if !hangup_is_ignored() {
        signals.push(listen(SignalKind::hangup())?);
    }
    Ok(tokio::spawn(async move {
        for token in tokens {
            first(&mut signals).await;
            token.cancel();
        }
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

/// Cancels one token after the other at each Ctrl-C.
#[cfg(not(unix))]
pub(crate) fn cancel_on_signals<const N: usize>(
    tokens: [CancellationToken; N],
) -> Result<JoinHandle<()>, Error> {
    Ok(tokio::spawn(async move {
        for token in tokens {
            // Without a handler the system ends the program, which ends its node.
            let _ = tokio::signal::ctrl_c().await;
            token.cancel();
        }
    }))
}
