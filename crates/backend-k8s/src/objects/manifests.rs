//! The plan as files that `kubectl apply -k` takes and that work without this program.

use std::collections::BTreeMap;

use propagation_core::plan::{Plan, Role};
use propagation_core::{Error, ErrorKind};
use serde_json::{Value, json};

use super::workload::{Common, IN_IMAGE, Placement, Task, pod};
use super::{namespace, service_account};
use crate::oci::image_name;
use crate::toleration::Toleration;

/// The rights that a run needs, and no more.
const RBAC: &str = include_str!("../../manifests/rbac.yaml");

/// What can be chosen for the files.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// The namespace of everything.
    pub namespace: String,
    /// The image with the agent; none takes the one that `propagation image` writes.
    pub image: Option<String>,
    /// Labels that the node has to have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that do not matter.
    pub tolerations: Vec<Toleration>,
    /// Whether consumers get a liveness probe.
    pub liveness_probe: bool,
    /// Whether the producer is a native sidecar of a consumer (Kubernetes 1.29) instead of a pod of its own.
    pub sidecar: bool,
}

/// The files, by name: a kustomize tree, and `rbac.yaml` beside it.
///
/// # Errors
/// [`ErrorKind::Internal`] when an object cannot be written as YAML.
pub fn files(plan: &Plan, choices: &Choices) -> Result<Vec<(&'static str, String)>, Error> {
    let own = image_name();
    let placement = Placement {
        node_selector: choices.node_selector.clone(),
        tolerations: choices.tolerations.clone(),
    };
    let common = Common {
        namespace: &choices.namespace,
        run: None,
        bridge: &plan.bridge,
        image: choices.image.as_deref().unwrap_or(&own),
        placement: &placement,
    };
    let task = Task::ByItself {
        deadlines: &plan.deadlines,
        allow_other: plan.fuse.allow_other,
        liveness_probe: choices.liveness_probe,
    };
    let pods = |wanted: &[Role]| {
        let specs = plan.workloads.iter().filter(|spec| wanted.contains(&spec.role));
        let documents = specs.map(|spec| yaml(&pod(&spec.name, spec, &common, &task)));
        documents.collect::<Result<Vec<_>, _>>().map(|documents| documents.join("---\n"))
    };
    if choices.sidecar {
        return sidecar_files(plan, choices, &common, &task);
    }
    let space =
        [yaml(&namespace(&choices.namespace, None))?, yaml(&service_account(&choices.namespace))?];
    Ok(vec![
        ("kustomization.yaml", KUSTOMIZATION.into()),
        ("namespace.yaml", format!("{NAMESPACE_WORDS}{}", space.join("---\n"))),
        ("producer.yaml", format!("{PRODUCER_WORDS}{}", pods(&[Role::Producer])?)),
        (
            "consumer.yaml",
            format!("{}{}", consumer_words(choices), pods(&[Role::Consumer, Role::Control])?),
        ),
        ("rbac.yaml", RBAC.into()),
    ])
}

/// The files of one pod whose producer is a native sidecar.
fn sidecar_files(
    plan: &Plan,
    choices: &Choices,
    common: &Common<'_>,
    task: &Task<'_>,
) -> Result<Vec<(&'static str, String)>, Error> {
    let consumer = plan.with_role(Role::Consumer).next();
    let (Some(producer), Some(consumer)) = (plan.producer(), consumer) else {
        let reason = "the plan has no producer or no consumer";
        return Err(Error::new(ErrorKind::InvalidInput, "write a pod with a sidecar", reason));
    };
    let paths = producer.paths(common.bridge);
    let pod = with_sidecar(
        pod("consumer", consumer, common, task),
        pod("producer", producer, common, task),
        &paths.fuse,
    );
    let space =
        [yaml(&namespace(&choices.namespace, None))?, yaml(&service_account(&choices.namespace))?];
    Ok(vec![
        ("kustomization.yaml", KUSTOMIZATION.replace("  - producer.yaml\n", "")),
        ("namespace.yaml", format!("{NAMESPACE_WORDS}{}", space.join("---\n"))),
        ("consumer.yaml", format!("{SIDECAR_WORDS}{}", yaml(&pod)?)),
        ("rbac.yaml", RBAC.into()),
    ])
}

/// A pod whose containers start when its sidecar serves, and go on when that is restarted.
fn with_sidecar(mut pod: Value, mut producer: Value, mountpoint: &str) -> Value {
    let mut sidecar = producer["spec"]["containers"][0].take();
    sidecar["name"] = json!("producer");
    sidecar["restartPolicy"] = json!("Always");
    sidecar["startupProbe"] = json!({
        "exec": { "command": [IN_IMAGE, "probe", mountpoint, "--timeout", "4s"] },
        "periodSeconds": 1,
        "timeoutSeconds": 5,
        "failureThreshold": 60,
    });
    pod["spec"]["initContainers"] = json!([sidecar]);
    pod
}

const SIDECAR_WORDS: &str = "\
# The producer is a native sidecar: it serves before the consumer starts, and is restarted beside it.
";

const KUSTOMIZATION: &str = "\
# kubectl apply -k .
# Then: kubectl --namespace fuse-test logs --follow consumer-early
# rbac.yaml is not part of it: it is for who runs `propagation run --backend k8s` with few rights.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - namespace.yaml
  - producer.yaml
  - consumer.yaml
";

const NAMESPACE_WORDS: &str = "\
# The producer has to be privileged, and volumes are hostPath: Pod Security level privileged.
";

const PRODUCER_WORDS: &str = "\
# Makes a FUSE mount in the shared directory and serves it until it is deleted. Only it is
# privileged: the API server refuses Bidirectional otherwise.
";

fn consumer_words(choices: &Choices) -> String {
    let words = "\
# Read the mount, before it is there and after. The control (None) must not see it.
";
    let probe = "\
# The liveness probe looks every 10 s, gives each look 4 s, and restarts the container after three
# that failed: 35 s after the mount died or began to hang at the latest. It begins after 60 s, so
# that a producer that starts late is waited for.
";
    if choices.liveness_probe { format!("{words}{probe}") } else { words.into() }
}

/// The same object gives the same text: maps of JSON are sorted.
fn yaml(manifest: &Value) -> Result<String, Error> {
    const OPERATION: &str = "write an object as YAML";
    serde_saphyr::to_string(manifest)
        .map_err(|error| Error::from_source(ErrorKind::Internal, OPERATION, error))
}
