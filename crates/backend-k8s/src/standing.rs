//! What a pod's status means for its start.

use std::time::Duration;

use propagation_core::program::StartRefused;

use crate::kinds::{ContainerState, Pod};

/// How a pod stands, as far as its start goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// On its way.
    Pending,
    /// Its container runs.
    Running,
    /// The runtime refuses its container: a result.
    Refused(StartRefused),
    /// It cannot start for a reason that says nothing about propagation: what, and what to do.
    Broken { reason: String, fix: &'static str },
    /// It has ended.
    Over { reason: Option<String> },
}

/// What a pod's status means.
pub(crate) fn standing(pod: &Pod) -> Standing {
    let Some(status) = &pod.status else { return Standing::Pending };
    let phase = status.phase.as_deref().unwrap_or_default();
    if matches!(phase, "Failed" | "Succeeded") {
        let own = status.container_statuses.iter().flatten().next();
        let own = own.and_then(|container| container.state.as_ref()?.terminated.as_ref());
        let own = own.and_then(|ended| ended.message.as_deref()).map(str::trim);
        let words = [status.reason.as_deref(), status.message.as_deref(), own];
        let reason = words.into_iter().flatten().collect::<Vec<_>>().join(": ");
        if status.reason.as_deref().is_some_and(|reason| reason.starts_with("OutOf")) {
            return broken(&reason, ROOM);
        }
        return Standing::Over { reason: Some(reason).filter(|reason| !reason.is_empty()) };
    }
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        let message = condition.message.clone().unwrap_or_default();
        return broken(&format!("it cannot be scheduled: {message}"), SCHEDULE);
    }
    let container = status.container_statuses.iter().flatten().next();
    let Some(container) = container else { return Standing::Pending };
    match &container.state {
        Some(ContainerState { running: Some(_), .. }) => Standing::Running,
        Some(ContainerState { waiting: Some(waiting), .. }) => {
            let reason = waiting.reason.as_deref().unwrap_or_default();
            let message = waiting.message.as_deref().unwrap_or_default();
            let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
            waits(reason, message, last.and_then(|last| last.message.as_deref()))
        }
        Some(ContainerState { terminated: Some(ended), .. })
            if matches!(ended.reason.as_deref(), Some("StartError" | "ContainerCannotRun")) =>
        {
            refused_or_broken(ended.message.as_deref().unwrap_or_default())
        }
        _ => Standing::Pending,
    }
}

/// What a pod's status has said before its container is to start again.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    version: Option<String>,
    /// Refusals that say nothing of what comes: a kubelet tells of one when it is about to try again, so
    /// that of a try which it has made already is told of next.
    over: Vec<String>,
}

impl Heard {
    /// What a pod says now.
    pub(crate) fn of(pod: &Pod) -> Self {
        let over = match standing(pod) {
            Standing::Refused(refusal) => vec![refusal.text],
            _ => Vec::new(),
        };
        Self { version: pod.metadata.resource_version.clone(), over }
    }

    /// What a pod says later, if that is new and bad.
    pub(crate) fn news(&mut self, pod: &Pod) -> Option<Standing> {
        if self.version.is_some() && self.version == pod.metadata.resource_version {
            return None;
        }
        match standing(pod) {
            Standing::Pending | Standing::Running => None,
            Standing::Refused(refusal) if self.over.contains(&refusal.text) => None,
            Standing::Refused(refusal) if self.over.len() == 1 => {
                self.over.push(refusal.text);
                None
            }
            bad => Some(bad),
        }
    }
}

fn waits(reason: &str, message: &str, last: Option<&str>) -> Standing {
    match reason {
        "CreateContainerError" | "RunContainerError" | "CreateContainerConfigError" => {
            refused_or_broken(message)
        }
        "CrashLoopBackOff" if last.is_some_and(|last| last.contains("exec format error")) => {
            broken(last.unwrap_or_default(), ARCHITECTURE)
        }
        "ErrImagePull" | "ImagePullBackOff" if message.contains("no space left on device") => {
            broken(&format!("{reason}: {message}"), DISK)
        }
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
            broken(&format!("{reason}: {message}"), IMAGE)
        }
        _ => Standing::Pending,
    }
}

/// How long the kubelet waits, as it says, before it starts a container of the pod again.
pub(crate) fn back_off(pod: &Pod) -> Option<Duration> {
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let (_, rest) = waiting.message.as_ref()?.split_once("back-off ")?;
    let text = rest.split(' ').next()?;
    let (minutes, seconds) = text.split_once('m').unwrap_or(("0", text));
    let seconds = seconds.strip_suffix('s')?.parse::<u64>().ok()?;
    Some(Duration::from_secs(minutes.parse::<u64>().ok()? * 60 + seconds))
}

const ROOM: &str = "free CPU or memory on the node: each pod asks for 50m and 32Mi";
const SCHEDULE: &str = "uncordon the node, or let the pods tolerate its taints with --tolerate, or \
                        free CPU and memory (each pod asks for 50m and 32Mi)";
const IMAGE: &str = "bring the image onto the node: over ssh with --import-image, by `propagation image`, or \
                     name one that it can pull with --image";
const ARCHITECTURE: &str = "the agent is for another architecture than the node: build this program \
                            for it, or name an image with --image";
const DISK: &str = "free space on the node's disk";
const IDMAP: &str = "a volume of a pod with its own user namespace has to be on a filesystem that can be idmapped, such as \
                     ext4, XFS, Btrfs or tmpfs (not overlayfs, and FUSE only from Linux 6.12 on and where its daemon \
                     allows it): name another bridge, and mount one on /var/lib/propagation, or leave out user_namespace";

fn broken(reason: &str, fix: &'static str) -> Standing {
    Standing::Broken { reason: reason.into(), fix }
}

/// What the runtime says when it does not start a container. Most of it is about the volumes.
fn refused_or_broken(message: &str) -> Standing {
    let lower = message.to_lowercase();
    if lower.contains("exec format error") {
        return broken(message, ARCHITECTURE);
    }
    if lower.contains("no space left on device") {
        return broken(message, DISK);
    }
    if message.contains("MOUNT_ATTR_IDMAP") {
        return broken(message, IDMAP);
    }
    Standing::Refused(StartRefused::said(message))
}

#[cfg(test)]
mod tests {
    use propagation_core::program::RefusalKind;
    use serde_json::json;

    use super::*;

    fn standing_of(status: serde_json::Value) -> Standing {
        let pod = json!({ "metadata": { "name": "p" }, "status": status });
        standing(&serde_json::from_value(pod).expect("a pod"))
    }

    fn waiting(reason: &str, message: &str) -> Standing {
        standing_of(json!({
            "phase": "Pending",
            "containerStatuses": [{
                "name": "agent", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": reason, "message": message } },
            }],
        }))
    }

    #[test]
    fn what_the_runtime_refuses_is_a_result() {
        let text = "failed to generate container \"x\" spec: failed to generate spec: failed to stat \
                    \"/tmp/b/dfs\": stat /tmp/b/dfs: transport endpoint is not connected";
        let Standing::Refused(refusal) = waiting("CreateContainerError", text) else {
            panic!("a stale source is refused");
        };
        assert_eq!(refusal.kind, RefusalKind::DeadSource);
        let text = "path \"/tmp/b\" is mounted on \"/\" but it is not a shared mount";
        let Standing::Refused(refusal) = waiting("CreateContainerError", text) else {
            panic!("a private covering mount is refused");
        };
        assert_eq!((refusal.text.as_str(), refusal.kind), (text, RefusalKind::NotShared));
    }

    #[test]
    fn what_says_nothing_about_propagation_is_an_error_with_a_fix() {
        let unschedulable = json!({
            "phase": "Pending",
            "conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/2 nodes are available: 2 Insufficient cpu.",
            }],
        });
        let out_of = json!({
            "phase": "Failed", "reason": "OutOfcpu",
            "message": "Node didn't have enough resource: cpu",
        });
        for (standing, reason, fix) in [
            (standing_of(unschedulable), "Insufficient cpu", "--tolerate"),
            (standing_of(out_of), "OutOfcpu", "free CPU"),
            (waiting("ErrImageNeverPull", "image is not present"), "ErrImageNeverPull", "--image"),
            (waiting("ImagePullBackOff", "back-off"), "ImagePullBackOff", "--image"),
            (
                waiting("RunContainerError", "exec /a: exec format error"),
                "exec format",
                "architecture",
            ),
            (waiting("ErrImagePull", "write /x: no space left on device"), "ErrImagePull", "disk"),
            (waiting("CreateContainerError", "no space left on device"), "no space", "disk"),
        ] {
            let Standing::Broken { reason: found, fix: advice } = standing else {
                panic!("{reason}: {standing:?}");
            };
            assert!(found.contains(reason), "{found}");
            assert!(advice.contains(fix), "{advice}");
        }
    }

    #[test]
    fn a_refusal_of_a_try_before_is_over() {
        let says = |version: &str, state: serde_json::Value| -> Pod {
            let status = json!({ "phase": "Running", "containerStatuses": [{
                "name": "agent", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": state,
            }] });
            let metadata = json!({ "name": "p", "resourceVersion": version });
            serde_json::from_value(json!({ "metadata": metadata, "status": status }))
                .expect("a pod")
        };
        let refuses = |version: &str, text: &str| {
            let waiting = json!({ "reason": "CreateContainerError", "message": text });
            says(version, json!({ "waiting": waiting }))
        };
        let running = says("1", json!({ "running": { "startedAt": null } }));
        let mut heard = Heard::of(&running);
        assert_eq!(heard.news(&running), None);
        assert!(heard.news(&refuses("2", "a")).is_some(), "it ran until now");
        let mut heard = Heard::of(&refuses("2", "a"));
        for (version, text) in [("2", "a"), ("3", "a"), ("4", "b"), ("5", "b")] {
            assert_eq!(heard.news(&refuses(version, text)), None, "{version}: {text}");
        }
        assert!(heard.news(&refuses("6", "c")).is_some(), "the kubelet has tried again");
    }

    #[test]
    fn a_back_off_is_as_long_as_the_kubelet_says() {
        let says = |message: &str| {
            let pod = json!({ "metadata": { "name": "p" }, "status": { "containerStatuses": [{
                "name": "agent", "image": "i", "imageID": "", "ready": false, "restartCount": 3,
                "state": { "waiting": { "reason": "CrashLoopBackOff", "message": message } },
            }] } });
            back_off(&serde_json::from_value(pod).expect("a pod"))
        };
        let text = "back-off 40s restarting failed container=agent pod=p_n(1)";
        assert_eq!(says(text), Some(Duration::from_secs(40)));
        let text = "back-off 2m40s restarting failed container=agent pod=p_n(1)";
        assert_eq!(says(text), Some(Duration::from_secs(160)));
        assert_eq!(says("something else"), None);
    }

    #[test]
    fn an_evicted_pod_is_over_and_says_why() {
        let status = json!({
            "phase": "Failed", "reason": "Evicted", "message": "The node was low on memory.",
        });
        let reason = Some("Evicted: The node was low on memory.".to_owned());
        assert_eq!(standing_of(status), Standing::Over { reason });
    }

    #[test]
    fn a_pod_on_its_way_is_waited_for() {
        assert_eq!(standing_of(json!({ "phase": "Pending" })), Standing::Pending);
        assert_eq!(waiting("ContainerCreating", ""), Standing::Pending);
        assert_eq!(waiting("CrashLoopBackOff", "back-off 10s"), Standing::Pending);
    }
}
