//! The async runtime of a run, and its preconditions.

use std::io;

use propagation_core::{Error, ErrorKind};
use tokio::runtime::{Builder, Runtime};

/// A runtime for one run: one thread is enough, everything heavy is the agent's.
///
/// # Errors
/// [`ErrorKind::Environment`] with the limit that is too small.
pub(crate) fn runtime() -> Result<Runtime, Error> {
    allow_a_run()?;
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(failed)
}

/// Tries what a run takes for itself, before it writes anything.
///
/// # Errors
/// [`ErrorKind::Environment`] with the limit that is too small.
pub(crate) fn allow_a_run() -> Result<(), Error> {
    #[cfg(unix)]
    limits::try_all()?;
    Ok(())
}

/// The error when the runtime or its thread cannot be made.
pub(crate) fn failed(error: io::Error) -> Error {
    Error::from_source(ErrorKind::Environment, "start the async runtime", error)
}

/// For systems without mount namespaces.
#[cfg(not(target_os = "linux"))]
pub(crate) fn linux_only() -> Error {
    Error::new(ErrorKind::Unsupported, "use the local backend", "it needs Linux")
        .with_fix("run it on a Linux machine")
}

/// What the runtime, its signals and a progress bar take without asking: where it is not to be had,
/// they panic.
#[cfg(unix)]
mod limits {
    use std::io;
    use std::os::unix::net::UnixStream;

    use propagation_core::Error;
    use rustix::process::{Resource, getrlimit};

    /// Pairs of descriptors that a run opens for itself.
    const PAIRS: usize = 12;

    pub(super) fn try_all() -> Result<(), Error> {
        let too_small = |what, option, resource| {
            move |error: io::Error| {
                let limit = getrlimit(resource).current;
                let limit = limit.map_or_else(String::new, |limit| format!(" (it is {limit})"));
                super::failed(error)
                    .with_fix(format!("raise the limit of {what}: ulimit -{option} 1024{limit}"))
            }
        };
        let pairs = (0..PAIRS).map(|_| UnixStream::pair());
        pairs.collect::<io::Result<Vec<_>>>().map_err(too_small(
            "open descriptors",
            "n",
            Resource::Nofile,
        ))?;
        let thread = std::thread::Builder::new().spawn(|| {});
        let thread = thread.map_err(too_small("processes", "u", Resource::Nproc))?;
        // It does nothing that could fail.
        let _ = thread.join();
        Ok(())
    }
}
