//! The sign of life of a run in its record: it tells other machines that the run is going on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kube::Client;
use propagation_core::RunId;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::kinds::ConfigMap;
use crate::objects::{Record, SIGN};
use crate::requests::Api;

/// How often a run gives a sign.
const EVERY: Duration = Duration::from_secs(20);

/// A run that has given no sign for so long is taken to be dead: an API server may be away for a minute, and
/// clocks differ.
pub(crate) const LEASE: Duration = Duration::from_secs(180);

/// Gives signs until it is dropped.
#[derive(Debug)]
pub(crate) struct Sign(JoinHandle<()>);

impl Drop for Sign {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Seconds of Unix time.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or_default()
}

/// Begins to give signs.
pub(crate) fn given(client: Client, namespace: &str, run: &RunId) -> Sign {
    let (records, name): (Api<ConfigMap>, _) =
        (Api::namespaced(client, namespace), Record::name(run));
    Sign(tokio::spawn(async move {
        loop {
            tokio::time::sleep(EVERY).await;
            let patch = json!({ "metadata": { "annotations": { SIGN: now().to_string() } } });
            if let Err(error) = records.merge(&name, &patch).await {
                tracing::debug!(%error, "no sign of life could be given");
            }
        }
    }))
}
