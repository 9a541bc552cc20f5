//! The nodes of a cluster, and whether a node can carry a run.

use propagation_core::{Error, ErrorKind};

use crate::kinds::{Kind, Node, Taint};
use crate::objects::workload::Placement;
use crate::toleration::Toleration;

/// The label by which a scheduler finds one node.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Whether the node can carry a run.
///
/// # Errors
/// [`ErrorKind::Environment`] for one that is not ready, is cordoned, or has a taint that is not
/// tolerated, each with what to do.
pub(crate) fn check(node: &Node, tolerations: &[Toleration]) -> Result<(), Error> {
    let name = node.name();
    let refuse = |reason: String, fix: String| {
        Err(Error::new(ErrorKind::Environment, format!("use node {name}"), reason).with_fix(fix))
    };
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.clone().find(|condition| condition.type_ == "Ready");
    match ready {
        Some(condition) if condition.status == "True" => {}
        Some(condition) => {
            let message = condition.message.clone().unwrap_or_default();
            return refuse(
                format!("it is not Ready: {message}"),
                format!("see why: kubectl describe node {name}; or use another node with --node"),
            );
        }
        None => {
            let fix = format!("wait until its kubelet has reported: kubectl get node {name}");
            return refuse("its kubelet has not reported yet".into(), fix);
        }
    }
    let spec = node.spec.as_ref();
    if spec.and_then(|spec| spec.unschedulable).unwrap_or_default() {
        let fix = format!("kubectl uncordon {name}, or use another node with --node");
        return refuse("it is cordoned: no pods are scheduled to it".into(), fix);
    }
    let taints = spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let against = taints
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        .find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)));
    match against {
        None => Ok(()),
        Some(taint) => {
            let value = taint.value.as_ref().map(|value| format!("={value}")).unwrap_or_default();
            let words = format!("{}{value}:{}", taint.key, taint.effect);
            refuse(
                format!("it has the taint {words}, which keeps the run's pods away"),
                format!("let the pods tolerate it: --tolerate '{words}'"),
            )
        }
    }
}

/// As the scheduler decides it.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let value = toleration.value.as_deref().unwrap_or_default();
    (effect.is_empty() || effect == taint.effect)
        && ((key.is_empty() && exists) || key == taint.key)
        && (exists || value == taint.value.as_deref().unwrap_or_default())
}

/// Puts the run's pods on this node, by the scheduler.
pub(crate) fn placement(node: &Node, tolerations: &[Toleration]) -> Placement {
    let hostname = node.metadata.label(HOSTNAME).map_or_else(|| node.name(), ToOwned::to_owned);
    Placement {
        node_selector: [(HOSTNAME.to_owned(), hostname)].into(),
        tolerations: tolerations.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::options::parse_toleration;

    fn node(ready: &str, spec: Value) -> Node {
        let condition = json!({
            "type": "Ready", "status": ready, "message": "Kubelet stopped posting node status.",
        });
        let node = json!({
            "metadata": { "name": "w1" }, "spec": spec, "status": { "conditions": [condition] },
        });
        serde_json::from_value(node).expect("a node")
    }

    fn tainted() -> Value {
        json!({ "taints": [{ "key": "dedicated", "value": "media", "effect": "NoSchedule" }] })
    }

    #[test]
    fn nodes_that_cannot_be_used_say_why_and_what_to_do() {
        check(&node("True", json!({})), &[]).expect("a good node");
        let cordoned = json!({ "unschedulable": true });
        for (node, reason, fix) in [
            (node("Unknown", json!({})), "not Ready: Kubelet stopped", "describe node"),
            (node("True", cordoned), "cordoned", "uncordon w1"),
            (node("True", tainted()), "dedicated=media:NoSchedule", "--tolerate"),
        ] {
            let error = check(&node, &[]).expect_err(reason);
            assert!(error.reason().contains(reason), "{error}");
            assert!(error.fix().is_some_and(|text| text.contains(fix)), "{error}");
        }
    }

    #[test]
    fn taints_can_be_tolerated() {
        let node = node("True", tainted());
        for text in ["*", "dedicated", "dedicated=media", "dedicated=media:NoSchedule"] {
            check(&node, &[parse_toleration(text).expect(text)]).expect(text);
        }
        for text in ["other", "dedicated=web", "dedicated:NoExecute"] {
            check(&node, &[parse_toleration(text).expect(text)]).expect_err(text);
        }
    }
}
