//! What the cluster tells of a pod that does not start: its events, and the state of its node and of the kubelet there.

use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube::api::ListParams;

use crate::kinds::{Event, Lease, Node};
use crate::requests::Api;

/// The namespace of the leases that kubelets renew every 10 s.
const LEASES: &str = "kube-node-lease";

/// The age of a lease from which on its kubelet is silent: two renewals are missing. Shorter than a pod may take to
/// start, so that it is known when one has not.
const SILENT_AFTER: Duration = Duration::from_secs(25);

/// The most events that are quoted.
const QUOTED: usize = 3;

/// What the cluster tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// In the words of the API server, the events and the node; what cannot be read is left out.
    pub(crate) lines: Vec<String>,
    /// What to do about it, where it says what is wrong.
    pub(crate) fix: Option<String>,
}

impl Told {
    /// What was expected, with this behind it.
    pub(crate) fn after(&self, reason: &str) -> String {
        let lines = std::iter::once(reason).chain(self.lines.iter().map(String::as_str));
        lines.collect::<Vec<_>>().join("; ")
    }
}

/// Asks for it. A cluster that does not answer tells nothing.
pub(crate) async fn of_pod(client: &Client, namespace: &str, pod: &str, node: &str) -> Told {
    let mut told = Told::default();
    told.lines.extend(events(client, namespace, pod).await);
    told.fix = told.lines.iter().find_map(|line| fix_of(line)).map(str::to_owned);
    of_node(client, node, &mut told).await;
    told
}

/// The last warnings about a pod, the newest last.
async fn events(client: &Client, namespace: &str, pod: &str) -> Vec<String> {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let about = ListParams::default().fields(&format!("involvedObject.name={pod},type=Warning"));
    let Ok(mut found) = events.list(&about).await else { return Vec::new() };
    let words = |event: &Event| {
        let reason = event.reason.clone().unwrap_or_default();
        let message = event.message.clone().unwrap_or_default();
        format!("event {reason}: {}", message.trim())
    };
    found.sort_by(|one, other| one.last_timestamp.cmp(&other.last_timestamp));
    let first = found.len().saturating_sub(QUOTED);
    found[first..].iter().map(words).collect()
}

/// What to do about an event.
fn fix_of(event: &str) -> Option<&'static str> {
    let is_hidden = event.contains("mounting \"proc\"") && event.contains("not permitted");
    is_hidden.then_some(
        "a pod with its own user namespace gets a /proc only where nothing hides a part of the node's: unmount \
         what is mounted below /proc there (findmnt --submounts /proc), or leave out user_namespace",
    )
}

/// Whether the node and its kubelet are well.
async fn of_node(client: &Client, name: &str, told: &mut Told) {
    let nodes: Api<Node> = Api::all(client.clone());
    let Ok(node) = nodes.get(name).await else { return };
    told.lines.extend(conditions(&node));
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASES);
    let lease = leases.get(name).await.ok().and_then(|lease| lease.spec);
    let renewed = lease.and_then(|lease| lease.renew_time?.parse::<Timestamp>().ok());
    let age = renewed.map(|at| Timestamp::now().duration_since(at));
    if let Some(age) = age.and_then(|age| Duration::try_from(age).ok())
        && age > SILENT_AFTER
    {
        let seconds = age.as_secs();
        told.lines.push(format!("the kubelet of {name} has given no sign for {seconds} s"));
        told.fix = Some(format!(
            "see whether the kubelet of {name} runs, and its log: kubectl describe node {name}"
        ));
    } else if !conditions(&node).is_empty() {
        told.fix = Some(format!("see what is wrong with the node: kubectl describe node {name}"));
    }
}

/// The conditions of a node that are not as they should be.
fn conditions(node: &Node) -> Vec<String> {
    let all = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let bad = all.filter(|condition| {
        let as_it_should = if condition.type_ == "Ready" { "True" } else { "False" };
        condition.status != as_it_should
    });
    bad.map(|condition| {
        let message = condition.message.clone().unwrap_or_default();
        format!("node condition {}={}: {message}", condition.type_, condition.status)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_proc_has_a_fix() {
        let event = "error mounting \"proc\" to rootfs at \"/proc\": mount src=proc, dst=/proc: operation not permitted";
        assert!(fix_of(event).is_some_and(|fix| fix.contains("findmnt")));
        assert_eq!(fix_of("operation not permitted"), None);
    }

    #[test]
    fn what_is_wrong_with_a_node_is_quoted() {
        let node = serde_json::json!({ "status": { "conditions": [
            { "type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status." },
            { "type": "DiskPressure", "status": "True", "message": "kubelet has disk pressure" },
            { "type": "PIDPressure", "status": "False", "message": "kubelet has sufficient PID" },
        ] } });
        let node: Node = serde_json::from_value(node).expect("a node");
        assert_eq!(
            conditions(&node),
            [
                "node condition Ready=Unknown: Kubelet stopped posting node status.",
                "node condition DiskPressure=True: kubelet has disk pressure",
            ]
        );
    }
}
