//! The agent that this program carries, and where it may be sent.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use propagation_core::{Error, ErrorKind};

/// The architecture that the agent is for, as Kubernetes calls it.
pub(crate) fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The agent that this program carries; empty where it could not be built.
#[cfg(target_os = "linux")]
fn carried() -> &'static [u8] {
    propagation_agent_embed::AGENT
}

/// The agent that this program carries: none on systems that it cannot be built on.
#[cfg(not(target_os = "linux"))]
fn carried() -> &'static [u8] {
    &[]
}

/// The agent for nodes of an architecture.
///
/// # Errors
/// [`ErrorKind::Environment`] when this program carries none for it.
pub(crate) fn for_architecture(architecture: &str) -> Result<&'static [u8], Error> {
    let agent = carried();
    if !agent.is_empty() && architecture == own_architecture() {
        return Ok(agent);
    }
    let reason = match agent.is_empty() {
        true => "this program carries none".to_owned(),
        false => format!("this program carries one for {} only", own_architecture()),
    };
    let operation = format!("bring the agent onto a node of architecture {architecture:?}");
    Err(Error::new(ErrorKind::Environment, operation, reason)
        .with_fix(
            "name an image that has it with --image (crates/backend-k8s/images/Dockerfile makes one), or run this \
             program from a machine of the node's architecture",
        ))
}

/// The agent as it is sent through the API server.
pub(crate) fn compressed(agent: &[u8]) -> Result<Vec<u8>, Error> {
    let failed = |error: std::io::Error| {
        Error::from_source(ErrorKind::Internal, "compress the agent", error)
    };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(agent).map_err(failed)?;
    encoder.finish().map_err(failed)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_carried_and_gets_smaller() {
        let agent = for_architecture(own_architecture()).expect("it is carried");
        let small = compressed(agent).expect("memory");
        assert!(small.len() < agent.len());
    }

    #[test]
    fn another_architecture_is_an_error_that_helps() {
        let error = for_architecture("riscv64").expect_err("not carried");
        assert!(error.fix().is_some_and(|fix| fix.contains("--image")), "{error}");
    }
}
