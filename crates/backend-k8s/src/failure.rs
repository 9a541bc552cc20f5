//! Errors of the API server, with their fixes.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use kube::core::Status;
use kube::runtime::watcher;
use propagation_core::{Error, ErrorKind};

use crate::kinds::Kind;
use crate::requests::Api;

/// The first pause before a request is sent again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// A server that starts takes seconds; asking more often than this does not help it.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Time that a server may be unreachable during a run; a restarted API server is back sooner.
pub(crate) const AWAY_AT_MOST: Duration = Duration::from_secs(60);

/// The error of a request to the API server, with what can be done about it.
pub(crate) fn api(operation: impl Into<String>, error: kube::Error) -> Error {
    let operation = operation.into();
    match error {
        kube::Error::Api(status) => refused(operation, &status),
        kube::Error::Auth(error) => {
            environment(operation, &error.to_string()).with_fix(LOG_IN).with_source(error)
        }
        error @ (kube::Error::HyperError(_) | kube::Error::Service(_)) => {
            Error::new(ErrorKind::Environment, operation, chain(&error))
                .with_fix(
                    "see that the API server of the kubeconfig is the right one and can be \
                     reached: kubectl get --raw /readyz; another context: --context NAME",
                )
                .with_source(error)
        }
        error => environment(operation, &chain(&error)).with_source(error),
    }
}

/// An error with its fix, for a list of what could not be done.
pub(crate) fn in_full(error: &Error) -> String {
    match error.fix() {
        Some(fix) => format!("{error} ({fix})"),
        None => error.to_string(),
    }
}

const LOG_IN: &str = "renew the credentials in the kubeconfig (they are missing or have expired), \
                      or choose others with --context";

fn environment(operation: String, reason: &str) -> Error {
    Error::new(ErrorKind::Environment, operation, reason)
}

/// An error with all its sources: the lowest one says what happened.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut below = error.source();
    while let Some(error) = below {
        let text = error.to_string();
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        below = error.source();
    }
    texts.join(": ")
}

/// A request that the server has answered with a refusal.
fn refused(operation: String, status: &Status) -> Error {
    let message = status.message.as_str();
    let error = environment(operation, message);
    match (status.code, message) {
        (401, _) => error.with_fix(LOG_IN),
        (403, text) if text.contains("exceeded quota") => error.with_fix(
            "raise the quota, or run in another namespace: the run needs 50m CPU and 32Mi memory \
             for each pod",
        ),
        (403, text)
            if text.contains("violates PodSecurity") || text.contains("PodSecurityPolicy") =>
        {
            error.with_fix(
                "the producer has to be privileged and volumes are hostPath: label the namespace \
                 pod-security.kubernetes.io/enforce=privileged, or let the run make its own",
            )
        }
        (403, text) if text.contains("cannot ") => error.with_fix(
            "give the user that verb on that resource: rbac.yaml, which `propagation manifests` \
             writes, has all that is needed",
        ),
        (403, _) => error.with_fix("ask the cluster's administrator: an admission rule forbids it"),
        (404, text) if text.starts_with("nodes ") => {
            error.with_fix("list the nodes with: kubectl get nodes")
        }
        (409, _) => {
            error.with_fix("remove the object of that name: propagation clean --backend k8s")
        }
        _ => error,
    }
}

/// Whether the same request may well succeed a little later.
pub(crate) fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => true,
        // The caches of an API server that has just started do not know every role yet.
        kube::Error::Api(status) => {
            matches!(status.code, 429 | 500 | 502 | 503 | 504)
                || (status.code == 403 && status.message.contains("not yet synced"))
        }
        _ => false,
    }
}

/// Sends a request until it is answered, through a restart of the API server.
pub(crate) async fn persist<T, Sending>(
    operation: &str,
    send: impl Fn() -> Sending,
) -> Result<T, Error>
where
    Sending: Future<Output = Result<T, kube::Error>>,
{
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match send().await {
            Err(error) if is_passing(&error) && started.elapsed() < AWAY_AT_MOST => {
                tracing::debug!(operation, %error, "sent again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            result => return result.map_err(|error| api(operation, error)),
        }
    }
}

/// Waits until an object meets a condition, through a restart of the API server; the object then.
pub(crate) async fn persist_until<K: Kind>(
    operation: &str,
    objects: &Api<K>,
    name: &str,
    condition: impl Fn(Option<&K>) -> bool,
) -> Result<Option<K>, Error> {
    let mut states = objects.watch_object(name);
    while let Some(state) = states.next().await {
        match state {
            Ok(object) if condition(object.as_ref()) => return Ok(object),
            Ok(_) => {}
            Err(
                watcher::Error::InitialListFailed(error)
                | watcher::Error::WatchStartFailed(error)
                | watcher::Error::WatchFailed(error),
            ) if !is_passing(&error) => return Err(api(operation, error)),
            Err(error) => tracing::debug!(operation, %error, "watched again"),
        }
    }
    Err(environment(operation.to_owned(), "the watch has ended"))
}

/// Deletes; an absent object counts as deleted.
pub(crate) fn or_gone<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(drop),
    }
}

/// What to do about what a node's disk does not let the agent do, by the words of its programs.
pub(crate) fn fix_of_disk(words: &str) -> Option<&'static str> {
    let words = words.to_lowercase();
    if words.contains("no space left on device") {
        Some("free space on the node's disk")
    } else if words.contains("permission denied") && words.contains("mounted noexec") {
        Some("allow programs there: mount -o remount,exec")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> Error {
        let status = Status { code, message: message.into(), ..Status::default() };
        api("create pod p", kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn refusals_come_with_what_to_do() {
        for (code, message, fix) in [
            (401, "Unauthorized", "renew the credentials"),
            (
                403,
                "pods is forbidden: User \"u\" cannot create resource \"pods\" in API group \"\"",
                "give the user that verb",
            ),
            (
                403,
                "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1",
                "raise the quota",
            ),
            (
                403,
                "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": privileged",
                "label the namespace",
            ),
            (403, "admission webhook denied the request", "admission rule"),
            (404, "nodes \"k3s-w9\" not found", "kubectl get nodes"),
        ] {
            let error = status(code, message);
            assert_eq!(error.kind(), ErrorKind::Environment);
            assert!(error.reason().contains(message), "{error}");
            assert!(
                error.fix().is_some_and(|text| text.contains(fix)),
                "{error}: {:?}",
                error.fix()
            );
        }
    }
}
