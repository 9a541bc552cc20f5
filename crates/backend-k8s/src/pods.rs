//! The pods of a run as the API server reports them: one watch, which also notices a pod that another client
//! deletes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use kube::Client;
use kube::runtime::watcher::{Config, Event};
use propagation_core::client::lock;
use propagation_core::{Error, ErrorKind, RunId};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::kinds::{Kind, Pod};
use crate::objects::RUN_ID;
use crate::requests::Api;

/// How much later than the node the API server may tell that a pod has been taken away.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// All pods of a run, followed until this is dropped.
#[derive(Debug)]
pub(crate) struct Pods {
    known: watch::Receiver<Known>,
    /// The pods that must be there.
    expected: Mutex<HashSet<String>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Known {
    pods: HashMap<String, Arc<Pod>>,
    /// The pods that are deleted.
    gone: HashSet<String>,
    /// The pods of an incomplete list.
    listed: HashMap<String, Arc<Pod>>,
    /// Whether they have been listed once.
    complete: bool,
}

impl Known {
    /// Takes what the watch tells; after it has begun again it lists all there are.
    fn take(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.insert(pod.name(), Arc::new(pod));
            }
            Event::InitDone => {
                let before = std::mem::replace(&mut self.pods, std::mem::take(&mut self.listed));
                let gone = before.into_keys().filter(|name| !self.pods.contains_key(name));
                self.gone.extend(gone);
                self.complete = true;
            }
            Event::Apply(pod) => {
                self.pods.insert(pod.name(), Arc::new(pod));
            }
            Event::Delete(pod) => {
                self.pods.remove(&pod.name());
                self.gone.insert(pod.name());
            }
        }
    }
}

impl Pods {
    /// Begins to watch.
    pub(crate) fn watch(client: Client, namespace: &str, run: &RunId) -> Self {
        let (sender, known) = watch::channel(Known::default());
        let api: Api<Pod> = Api::namespaced(client, namespace);
        // Servers from 1.20 on have no streaming lists.
        let config = Config::default().labels(&format!("{RUN_ID}={run}"));
        let task = tokio::spawn(async move {
            let mut events = api.watch(config);
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => sender.send_modify(|known| known.take(event)),
                    Err(error) => tracing::debug!(%error, "the watch of pods begins again"),
                }
            }
        });
        Self { known, expected: Mutex::default(), task }
    }

    /// From now on these pods must be there, and a deletion by another client is an error.
    pub(crate) fn expect(&self, names: &[String]) {
        lock(&self.expected).extend(names.iter().cloned());
    }

    /// These pods may go.
    pub(crate) fn expect_no_more(&self, names: &[String]) {
        let mut expected = lock(&self.expected);
        expected.retain(|name| !names.contains(name));
    }

    /// From now on all pods may go.
    pub(crate) fn expect_none(&self) {
        lock(&self.expected).clear();
    }

    /// The result, or the error that a pod was deleted by another client: the result means nothing then. The API
    /// server may report the deletion later than the node reports the end of a program.
    pub(crate) async fn undisturbed<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        let has_ended = result.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidInput);
        let within = if has_ended { TOLD_WITHIN } else { Duration::ZERO };
        match tokio::time::timeout(within, self.disturbance()).await {
            Ok(error) => Err(error),
            Err(_) => result,
        }
    }

    /// Waits until another client has deleted a pod that must be there.
    pub(crate) async fn disturbance(&self) -> Error {
        let mut known = self.known.clone();
        let mut found = None;
        let waited = known.wait_for(|known| {
            found = taken_away(known, &lock(&self.expected));
            found.is_some()
        });
        let (Ok(_), Some(reason)) = (waited.await.map(drop), found) else {
            // Nothing is told any more.
            return std::future::pending().await;
        };
        Error::new(ErrorKind::Environment, "keep the run's pods", reason).with_fix(
            "see who did it, a drain, a descheduler or a node short of memory or disk: kubectl get \
             events --all-namespaces; then run again",
        )
    }

    /// Waits until what is known of the pods meets a condition.
    pub(crate) async fn until<T>(
        &self,
        mut met: impl FnMut(&HashMap<String, Arc<Pod>>) -> Option<T>,
    ) -> Option<T> {
        let mut known = self.known.clone();
        let mut found = None;
        let waited = known.wait_for(|known| {
            found = known.complete.then(|| met(&known.pods)).flatten();
            found.is_some()
        });
        waited.await.ok()?;
        found
    }

    /// A pod, as it is known now.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Pod>> {
        self.known.borrow().pods.get(name).cloned()
    }
}

/// The state of a pod that must be there and that another client has deleted.
fn taken_away(known: &Known, expected: &HashSet<String>) -> Option<String> {
    expected.iter().find_map(|name| {
        let Some(pod) = known.pods.get(name) else {
            return known.gone.contains(name).then(|| format!("somebody has deleted pod {name}"));
        };
        if pod.metadata.deletion_timestamp.is_some() {
            return Some(format!("somebody is deleting pod {name}"));
        }
        let status = pod.status.as_ref()?;
        // Its containers are always restarted, so it does not end by itself.
        matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")).then(|| {
            let words = [&status.reason, &status.message].into_iter().flatten();
            let words: Vec<&str> = words.map(String::as_str).collect();
            format!("pod {name} has ended: {}", words.join(": "))
        })
    })
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pods() -> (watch::Sender<Known>, Pods) {
        let (sender, known) = watch::channel(Known::default());
        let task = tokio::spawn(std::future::pending());
        (sender, Pods { known, expected: Mutex::default(), task })
    }

    fn pod(name: &str, status: Value) -> Pod {
        let pod = json!({ "metadata": { "name": name }, "status": status });
        serde_json::from_value(pod).expect("a pod")
    }

    #[tokio::test]
    async fn who_is_taken_away_makes_every_result_void() {
        let running = || pod("early-1", json!({ "phase": "Running" }));
        let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "low on memory" });
        let mut going = running();
        going.metadata.deletion_timestamp = Some("2026-02-28T10:00:00Z".into());
        for (event, words) in [
            (Event::Delete(running()), "somebody has deleted pod early-1"),
            (Event::Apply(going), "somebody is deleting pod early-1"),
            (Event::Apply(pod("early-1", evicted)), "Evicted: low on memory"),
            // The watch was away meanwhile.
            (Event::InitDone, "somebody has deleted pod early-1"),
        ] {
            let (sender, pods) = pods();
            pods.expect(&["early-1".into()]);
            assert!(pods.undisturbed(Ok(())).await.is_ok(), "it has not been seen yet");
            sender.send_modify(|known| known.take(Event::Apply(running())));
            assert!(pods.undisturbed(Ok(())).await.is_ok(), "it runs");
            sender.send_modify(|known| known.take(event));
            let error = pods.undisturbed(Ok(())).await.expect_err(words);
            assert!(error.reason().contains(words), "{error}");
            pods.expect_no_more(&["early-1".into()]);
            assert!(pods.undisturbed(Ok(())).await.is_ok(), "it was to go");
            pods.expect(&["early-1".into()]);
            pods.expect_none();
            assert!(pods.undisturbed(Ok(())).await.is_ok(), "all were to go");
        }
    }
}
