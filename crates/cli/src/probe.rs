//! `propagation probe`: becomes the agent, which cannot hang.

use propagation_core::Error;

use crate::args::ProbeOptions;
use crate::exit::Exit;

#[cfg(target_os = "linux")]
pub(crate) fn main(options: &ProbeOptions) -> Result<Exit, Error> {
    use std::os::unix::process::CommandExt;

    use propagation_core::ErrorKind;
    let failed = |error: std::io::Error| {
        Error::from_source(ErrorKind::Environment, "start the agent", error).with_fix(
            "mount /proc, and allow memfd_create(2) and execution from it; or put the agent itself \
             there and run `propagation-agent probe`",
        )
    };
    let mut command = propagation_agent_embed::command().map_err(failed)?;
    command.arg("probe").arg("--timeout").arg(format!("{}ms", options.timeout.as_millis()));
    if let Some(sentinel) = &options.sentinel {
        command.args(["--sentinel", sentinel]);
    }
    // In place of this program: its status is the status, and who kills the one kills the other.
    Err(failed(command.arg("--").arg(&options.path).exec()))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn main(_options: &ProbeOptions) -> Result<Exit, Error> {
    Err(crate::runtime::linux_only())
}
