//! `propagation probe`: hands over to the agent, which cannot hang.

use propagation_core::Error;

use crate::args::ProbeOptions;
use crate::exit::Exit;

#[cfg(target_os = "linux")]
pub(crate) fn main(options: &ProbeOptions) -> Result<Exit, Error> {
    use propagation_core::ErrorKind;
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Environment, "start the agent", error.to_string())
    };
    let mut command = propagation_agent_embed::command().map_err(failed)?;
    command.arg("probe").arg("--timeout").arg(options.timeout.as_millis().to_string());
    if let Some(sentinel) = &options.sentinel {
        command.args(["--sentinel", sentinel]);
    }
    let status = command.arg(&options.path).status().map_err(failed)?;
    Ok(Exit::Probe(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn main(_options: &ProbeOptions) -> Result<Exit, Error> {
    Err(crate::doctor::linux_only())
}
