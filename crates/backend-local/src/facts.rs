//! Facts of this host, for `doctor`.

use std::time::Duration;

use propagation_core::facts::HostFacts;
use propagation_core::{Error, ErrorKind};

const OPERATION: &str = "read the facts of this host";

/// Reads the facts of this host for a bridge at `bridge`, changing nothing. The agent does it, so
/// that a hung mount on the way cannot hang the caller: after `deadline` it is given up.
///
/// # Errors
/// [`ErrorKind::Timeout`] when the bridge path hangs; [`ErrorKind::Environment`] when the agent
/// cannot run here.
pub async fn host_facts(bridge: &str, deadline: Duration) -> Result<HostFacts, Error> {
    let bridge = bridge.to_owned();
    let failed =
        |error: std::io::Error| Error::from_source(ErrorKind::Environment, OPERATION, error);
    let mut child = propagation_agent_embed::command()
        .map_err(failed)?
        .args(["facts", "--bridge", &bridge])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let stdout = child.stdout.take();
    let read = move || {
        let mut text = String::new();
        if let Some(mut stdout) = stdout {
            std::io::Read::read_to_string(&mut stdout, &mut text)?;
        }
        child.wait()?;
        Ok::<_, std::io::Error>(text)
    };
    match crate::within::within(deadline, read).await {
        Some(Ok(json)) => serde_json::from_str(&json)
            .map_err(|error| Error::from_source(ErrorKind::Environment, OPERATION, error)),
        Some(Err(error)) => Err(failed(error)),
        None => {
            // It ends when the mount that holds it does; the kill is remembered until then.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            Err(Error::new(
                ErrorKind::Timeout,
                format!("look at {bridge:?}"),
                format!("no answer in {} ms: a FUSE mount on the way hangs", deadline.as_millis()),
            )
            .with_fix("kill its daemon, or write 1 to /sys/fs/fuse/connections/<minor>/abort"))
        }
    }
}
