//! Runs a program in a container. The runtime does it, so that the program has exactly the container's rights:
//! its capabilities, its filter of system calls, its control groups.

use std::time::{Duration, Instant};

use kube::api::AttachParams;
use propagation_core::host::Layout;
use propagation_core::program::Executed;
use propagation_core::{Error, ErrorKind};
use tokio::io::AsyncReadExt;

use crate::failure::api;
use crate::objects::CONTAINER;
use crate::shared::Shared;

/// How much longer than the program the way there and back may take.
const WAY_WITHIN: Duration = Duration::from_secs(30);

/// A container tells the host agent that it runs before its kubelet has seen it; so long the kubelet may take.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// Between two requests to a kubelet that has not seen the container: only a request tells whether it has.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Runs a program in the container of a pod. The agent there ends it when `deadline` has passed.
pub(crate) async fn execute(
    shared: &Shared,
    pod: &str,
    command: &[String],
    deadline: Duration,
) -> Result<Executed, Error> {
    let operation = format!("run {} in pod {}/{pod}", command.join(" "), shared.namespace);
    let mut words = vec![Layout::inside().agent(), "execute".into(), "--deadline-ms".into()];
    words.extend([deadline.as_millis().to_string(), "--".into()]);
    words.extend(command.iter().cloned());
    let asked = async {
        let until = Instant::now() + SEEN_WITHIN;
        loop {
            match ask(shared, pod, &operation, words.clone()).await {
                Err(error) if is_unseen(&error) && Instant::now() < until => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                answer => return answer,
            }
        }
    };
    let executed = tokio::time::timeout(deadline + WAY_WITHIN, asked);
    executed.await.unwrap_or_else(|_| {
        let reason = format!("no answer in {} s", (deadline + WAY_WITHIN).as_secs());
        Err(Error::new(ErrorKind::Timeout, operation.clone(), reason)
            .with_fix("see whether its kubelet runs: kubectl get nodes"))
    })
}

/// Whether the kubelet does not know the container: nothing was run.
fn is_unseen(error: &Error) -> bool {
    error.to_string().contains("container not found")
}

async fn ask(
    shared: &Shared,
    pod: &str,
    operation: &str,
    words: Vec<String>,
) -> Result<Executed, Error> {
    let pods = shared.pod_api();
    let parameters = AttachParams::default().container(CONTAINER).stdout(true).stderr(true);
    let attached = pods.exec(pod, words, &parameters).await;
    let mut process = attached.map_err(|error| api(operation, error))?;
    let (mut answer, mut said) = (Vec::new(), String::new());
    let streams = (process.stdout(), process.stderr(), process.take_status());
    let (Some(mut out), Some(mut err), Some(status)) = streams else {
        return Err(Error::new(ErrorKind::Internal, operation, "no streams"));
    };
    let (read, _, status) =
        tokio::join!(out.read_to_end(&mut answer), err.read_to_string(&mut said), status);
    let refused = |reason: String| Err(Error::new(ErrorKind::Environment, operation, reason));
    match (read, serde_json::from_slice(&answer)) {
        (Ok(_), Ok(executed)) => Ok(executed),
        (Err(error), _) => refused(error.to_string()),
        (Ok(_), Err(_)) => {
            let words = status.and_then(|status| status.message).unwrap_or_default();
            refused(format!("{words} {}", said.trim()).trim().to_owned())
        }
    }
}
