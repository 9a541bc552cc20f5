//! The programs that a scenario starts: containers have those of their node.

use std::time::Duration;

use propagation_core::client::NodeClient;
use propagation_core::observation::Actor;
use propagation_core::{Error, ErrorKind};

use crate::host::Host;

/// Names those of its arguments that are no programs.
const SCRIPT: &str = r#"for it; do command -v "$it" > /dev/null || echo "$it"; done"#;

/// How long looking for programs may take.
const WITHIN: Duration = Duration::from_secs(5);

/// Makes sure that the node has the programs of the plan.
///
/// # Errors
/// [`ErrorKind::Unsupported`] with those that it has not.
pub(crate) async fn check(node: &NodeClient<Host>) -> Result<(), Error> {
    let programs = node.plan.programs();
    if programs.is_empty() {
        return Ok(());
    }
    let command = ["sh", "-c", SCRIPT, "sh"].into_iter().chain(programs);
    let command: Vec<String> = command.map(ToOwned::to_owned).collect();
    let missing = match node.execute(&Actor::Node, &command, WITHIN).await? {
        Ok(executed) => executed.output.split_whitespace().collect::<Vec<_>>().join(", "),
        Err(refused) => refused.reason,
    };
    if missing.is_empty() {
        return Ok(());
    }
    let reason = format!("the node has no program {missing}");
    Err(Error::new(ErrorKind::Unsupported, "start the programs of the scenario", reason)
        .with_fix("install it on the node, or name an image that has it"))
}
