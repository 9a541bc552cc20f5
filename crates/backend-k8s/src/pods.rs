//! The pods of a run as the API server tells of them: one watch, and whether somebody takes one away.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use propagation_core::client::lock;
use propagation_core::{Error, ErrorKind, RunId};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::objects::RUN_ID;
use crate::standing::{Standing, standing};

/// All pods of a run, followed until this is dropped.
#[derive(Debug)]
pub(crate) struct Pods {
    known: watch::Receiver<Known>,
    /// Those that are to be there.
    expected: Mutex<HashSet<String>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Known {
    pods: HashMap<String, Arc<Pod>>,
    /// Those that were there before.
    gone: HashSet<String>,
    /// Those of a list that is not complete yet.
    listed: HashMap<String, Arc<Pod>>,
    /// Whether they have been listed once.
    complete: bool,
}

impl Known {
    /// Takes what the watch tells; after it has begun again it lists all there are.
    fn take(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.insert(pod.name_any(), Arc::new(pod));
            }
            watcher::Event::InitDone => {
                let before = std::mem::replace(&mut self.pods, std::mem::take(&mut self.listed));
                let gone = before.into_keys().filter(|name| !self.pods.contains_key(name));
                self.gone.extend(gone);
                self.complete = true;
            }
            watcher::Event::Apply(pod) => {
                self.pods.insert(pod.name_any(), Arc::new(pod));
            }
            watcher::Event::Delete(pod) => {
                self.pods.remove(&pod.name_any());
                self.gone.insert(pod.name_any());
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
        let config = watcher::Config::default().labels(&format!("{RUN_ID}={run}"));
        let task = tokio::spawn(async move {
            let events = watcher(api, config).default_backoff();
            futures_util::pin_mut!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => sender.send_modify(|known| known.take(event)),
                    Err(error) => tracing::debug!(%error, "the watch of pods begins again"),
                }
            }
        });
        Self { known, expected: Mutex::default(), task }
    }

    /// From now on these pods are to be there, and nobody else is to delete them.
    pub(crate) fn expect(&self, names: &[String]) {
        lock(&self.expected).extend(names.iter().cloned());
    }

    /// These pods may go.
    pub(crate) fn expect_no_more(&self, names: &[String]) {
        let mut expected = lock(&self.expected);
        expected.retain(|name| !names.contains(name));
    }

    /// A result, unless somebody has taken a pod away that is to be there: then nothing follows from
    /// it.
    pub(crate) fn undisturbed<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        let Some(reason) = self.taken_away() else { return result };
        let operation = "keep the run's pods";
        Err(Error::new(ErrorKind::Environment, operation, reason).with_fix(
            "see who did it, a drain, a descheduler or a node short of memory or disk: kubectl get \
             events --all-namespaces; then run again",
        ))
    }

    /// What has become of a pod that somebody has taken away.
    fn taken_away(&self) -> Option<String> {
        let (known, expected) = (self.known.borrow(), lock(&self.expected));
        expected.iter().find_map(|name| match known.pods.get(name) {
            None if known.gone.contains(name) => Some(format!("somebody has deleted pod {name}")),
            None => None,
            Some(pod) if pod.metadata.deletion_timestamp.is_some() => {
                Some(format!("somebody is deleting pod {name}"))
            }
            Some(pod) => match standing(pod) {
                Standing::Over { reason } => {
                    let reason = reason.unwrap_or_else(|| "it does not say why".into());
                    Some(format!("pod {name} has ended: {reason}"))
                }
                _ => None,
            },
        })
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
        going.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-02-28T10:00:00Z")).expect("a time");
        for (event, words) in [
            (watcher::Event::Delete(running()), "somebody has deleted pod early-1"),
            (watcher::Event::Apply(going), "somebody is deleting pod early-1"),
            (watcher::Event::Apply(pod("early-1", evicted)), "Evicted: low on memory"),
            // The watch was away meanwhile.
            (watcher::Event::InitDone, "somebody has deleted pod early-1"),
        ] {
            let (sender, pods) = pods();
            pods.expect(&["early-1".into()]);
            assert!(pods.undisturbed(Ok(())).is_ok(), "it has not been seen yet");
            sender.send_modify(|known| known.take(watcher::Event::Apply(running())));
            assert!(pods.undisturbed(Ok(())).is_ok(), "it runs");
            sender.send_modify(|known| known.take(event));
            let error = pods.undisturbed(Ok(())).expect_err(words);
            assert!(error.reason().contains(words), "{error}");
            pods.expect_no_more(&["early-1".into()]);
            assert!(pods.undisturbed(Ok(())).is_ok(), "it was to go");
        }
    }
}
