//! A workload as a pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, ExecAction, HostPathVolumeSource, Pod,
    PodSecurityContext, PodSpec, Probe, ResourceRequirements, SecurityContext, Toleration, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;
use propagation_core::RunId;
use propagation_core::host::{Layout, ProgramId, SECRET_VARIABLE};
use propagation_core::plan::{Bridge, Deadlines, Role, WorkloadSpec};

use super::{CONTAINER, SERVICE_ACCOUNT, WORKLOAD, labels};

/// Which nodes a pod may run on.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Placement {
    /// Labels that the node has to have; none lets the scheduler choose.
    pub(crate) node_selector: BTreeMap<String, String>,
    /// Taints that do not matter.
    pub(crate) tolerations: Vec<Toleration>,
}

/// What the pods of a plan have in common.
#[derive(Debug, Clone)]
pub(crate) struct Common<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) run: Option<&'a RunId>,
    pub(crate) bridge: &'a Bridge,
    pub(crate) image: &'a str,
    pub(crate) placement: &'a Placement,
}

/// Directories and files of the node that a container gets, read-only, when it runs programs of the node.
pub(crate) fn node_trees(architecture: &str) -> Vec<&'static str> {
    let mut trees = vec!["/usr", "/bin", "/sbin", "/lib", "/etc/passwd", "/etc/group"];
    // Where the dynamic linker is.
    trees.extend((architecture == "amd64").then_some("/lib64"));
    trees
}

/// What the program of a pod does.
#[derive(Debug, Clone)]
pub(crate) enum Task<'a> {
    /// What the host agent says; the files of the run come in a volume, and so does what is to be the container's of
    /// the node.
    AsTold { program: ProgramId, secret: &'a str, run: &'a RunId, trees: &'a [&'static str] },
    /// What its command line says: for pods that are applied by hand.
    ByItself { deadlines: &'a Deadlines, allow_other: bool, liveness_probe: bool },
}

/// The pod of a workload.
pub(crate) fn pod(name: &str, spec: &WorkloadSpec, common: &Common<'_>, task: &Task<'_>) -> Pod {
    let paths = spec.paths(common.bridge);
    let kind = spec.bind.kind.map(|kind| kind.to_string());
    let kind = kind.as_deref().or_else(|| kind_of(task));
    let mut volumes = vec![host_path("bridge", &paths.source, kind)];
    let mut mounts = vec![VolumeMount {
        name: "bridge".into(),
        mount_path: paths.destination.clone(),
        mount_propagation: Some(spec.propagation.to_string()),
        sub_path: spec.sub_path.clone(),
        read_only: spec.bind.read_only.then_some(true),
        recursive_read_only: spec.bind.recursive_read_only.then(|| "Enabled".to_owned()),
        ..VolumeMount::default()
    }];
    for (number, volume) in spec.volumes.iter().enumerate() {
        let (name, how) = (format!("further-{number}"), &volume.bind);
        let kind = how.kind.map(|kind| kind.to_string());
        let source = common.bridge.fill(&volume.source);
        volumes.push(host_path(&name, &source, kind.as_deref()));
        mounts.push(VolumeMount {
            name,
            mount_path: volume.destination.clone(),
            mount_propagation: Some(volume.propagation.to_string()),
            read_only: how.read_only.then_some(true),
            recursive_read_only: how.recursive_read_only.then(|| "Enabled".to_owned()),
            ..VolumeMount::default()
        });
    }
    if let Task::AsTold { run, trees, .. } = task {
        for (number, tree) in trees.iter().enumerate() {
            let name = format!("node-{number}");
            volumes.push(host_path(&name, tree, None));
            mounts.push(VolumeMount {
                name,
                mount_path: (*tree).to_owned(),
                read_only: Some(true),
                ..VolumeMount::default()
            });
        }
        if !trees.is_empty() {
            let empty_dir = Some(EmptyDirVolumeSource::default());
            volumes.push(Volume { name: "tmp".into(), empty_dir, ..Volume::default() });
            let (name, mount_path) = ("tmp".into(), "/tmp".into());
            mounts.push(VolumeMount { name, mount_path, ..VolumeMount::default() });
        }
        let on_node = Layout::on_node(run.as_str());
        volumes.push(host_path("run", on_node.directory(), Some("Directory")));
        mounts.push(VolumeMount {
            name: "run".into(),
            mount_path: Layout::inside().directory().into(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    let env = match task {
        // Not an argument: those everybody on the node can read.
        Task::AsTold { secret, .. } => Some(vec![EnvVar {
            name: SECRET_VARIABLE.into(),
            value: Some((*secret).to_owned()),
            ..EnvVar::default()
        }]),
        Task::ByItself { .. } => None,
    };
    let liveness_probe = match task {
        Task::ByItself { liveness_probe: true, .. } if spec.role == Role::Consumer => {
            Some(liveness(&paths.fuse))
        }
        _ => None,
    };
    let container = Container {
        name: CONTAINER.into(),
        image: Some(common.image.into()),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some(command(spec, common, task)),
        env,
        resources: Some(resources()),
        security_context: Some(SecurityContext {
            privileged: Some(spec.privileged()),
            capabilities: Some(spec.capabilities.clone())
                .filter(|names| !names.is_empty())
                .map(|add| Capabilities { add: Some(add), ..Capabilities::default() }),
            run_as_user: Some(i64::from(spec.uid)),
            run_as_group: Some(i64::from(spec.uid)),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts),
        liveness_probe,
        ..Container::default()
    };
    let mut labels = labels(common.run);
    labels.insert(WORKLOAD.into(), spec.name.clone());
    // Kubernetes has no groups of a single container.
    let groups: Vec<i64> = spec.groups.iter().copied().map(i64::from).collect();
    let security_context = Some(groups).filter(|groups| !groups.is_empty()).map(|groups| {
        PodSecurityContext { supplemental_groups: Some(groups), ..PodSecurityContext::default() }
    });
    let placement = common.placement;
    let selector = Some(placement.node_selector.clone()).filter(|labels| !labels.is_empty());
    let tolerations = Some(placement.tolerations.clone()).filter(|list| !list.is_empty());
    Pod {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some(common.namespace.into()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers: vec![container],
            security_context,
            host_users: spec.user_namespace.then_some(false),
            volumes: Some(volumes),
            restart_policy: Some("Always".into()),
            // Programs end at SIGTERM at once; who hangs is not waited for.
            termination_grace_period_seconds: Some(1),
            service_account_name: Some(SERVICE_ACCOUNT.into()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            node_selector: selector,
            tolerations,
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

/// By hand the directory may have to be made; a run has made and journaled it.
fn kind_of(task: &Task<'_>) -> Option<&'static str> {
    match task {
        // No check by the kubelet: the runtime's own words say what is wrong with a stale source.
        Task::AsTold { .. } => None,
        Task::ByItself { .. } => Some("DirectoryOrCreate"),
    }
}

pub(crate) fn host_path(name: &str, path: &str, kind: Option<&str>) -> Volume {
    Volume {
        name: name.into(),
        host_path: Some(HostPathVolumeSource {
            path: path.into(),
            type_: kind.map(ToOwned::to_owned),
        }),
        ..Volume::default()
    }
}

/// Small, as the programs are.
pub(crate) fn resources() -> ResourceRequirements {
    let amounts = [("cpu", "50m"), ("memory", "32Mi")];
    let amounts = amounts.map(|(name, amount)| (name.to_owned(), Quantity(amount.into())));
    ResourceRequirements { requests: Some(amounts.into()), ..ResourceRequirements::default() }
}

/// Where the image has the agent.
pub(crate) const IN_IMAGE: &str = "/propagation-agent";

fn command(spec: &WorkloadSpec, common: &Common<'_>, task: &Task<'_>) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    match task {
        Task::AsTold { program, run, .. } => {
            let inside = Layout::inside();
            let (agent, socket) = (inside.agent(), inside.programs());
            let source = format!("propagation-{run}");
            let numbers = [program.container.to_string(), program.replica.to_string()];
            words(&[
                &agent,
                "program",
                "--socket",
                &socket,
                "--source",
                &source,
                "--container",
                &numbers[0],
                "--replica",
                &numbers[1],
            ])
        }
        Task::ByItself { deadlines, allow_other, .. } => {
            let paths = spec.paths(common.bridge);
            if spec.role == Role::Producer {
                let mut command = words(&[
                    IN_IMAGE,
                    "producer",
                    "--volume",
                    &paths.destination,
                    "--mountpoint",
                    &paths.fuse,
                    "--nonce",
                    "by-hand",
                ]);
                command.extend((!allow_other).then(|| "--no-allow-other".to_owned()));
                return command;
            }
            let (marker, probe) = (deadlines.marker_ms.to_string(), deadlines.probe_ms.to_string());
            words(&[
                IN_IMAGE,
                "consumer",
                "--mountpoint",
                &paths.fuse,
                "--marker-ms",
                &marker,
                "--probe-ms",
                &probe,
            ])
        }
    }
}

/// Looks every 10 s and gives a look 4 s: a dead mount restarts the container after at most
/// 3 × 10 s + 5 s, a hung one as well, because the look itself cannot hang. It waits 60 s for the
/// first mount.
fn liveness(mountpoint: &str) -> Probe {
    let command = [IN_IMAGE, "probe", mountpoint, "--timeout", "4s"];
    Probe {
        exec: Some(ExecAction {
            command: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        }),
        initial_delay_seconds: Some(60),
        period_seconds: Some(10),
        timeout_seconds: Some(5),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}
