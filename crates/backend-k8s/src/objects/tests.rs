//! The objects of the five phases, whole.

use propagation_core::RunId;
use propagation_core::host::ProgramId;
use propagation_core::plan::{Bridge, Plan};
use serde_json::json;

use super::host::{AgentFrom, config_maps, pod as host_pod};
use super::manifests::{Choices, files};
use super::workload::{Common, Placement, Task, pod};
use super::{Record, namespace};

fn run() -> RunId {
    RunId::parse("20260228t100000-ab12cd34").expect("a run id")
}

#[test]
fn the_pods_of_a_run() {
    let (plan, run) = (Plan::default(), run());
    let placement = Placement {
        node_selector: [("kubernetes.io/hostname".into(), "k3s-w2".into())].into(),
        tolerations: Vec::new(),
    };
    let common = Common {
        namespace: "fuse-test",
        run: Some(&run),
        bridge: &plan.bridge,
        image: "localhost/pause:3",
        placement: &placement,
    };
    let pods: Vec<_> = plan
        .workloads
        .iter()
        .zip(0..)
        .map(|(spec, container)| {
            let program = ProgramId { container, replica: 0 };
            let task = Task::AsTold { program, secret: "0123abcd", run: &run, trees: &[] };
            pod(&format!("{}-{container}", spec.name), spec, &common, &task)
        })
        .collect();
    insta::assert_json_snapshot!("pods", pods);
}

#[test]
fn programs_of_the_node_and_further_volumes_are_volumes() {
    let (mut plan, run, placement) = (Plan::default(), run(), Placement::default());
    let common = Common {
        namespace: "n",
        run: Some(&run),
        bridge: &plan.bridge.clone(),
        image: "i",
        placement: &placement,
    };
    plan.workloads[0].volumes = vec![
        serde_json::from_value(json!({
            "source": "{bridge}/csi", "destination": "/csi", "propagation": "Bidirectional",
        }))
        .expect("a volume"),
    ];
    let program = ProgramId { container: 0, replica: 0 };
    let task = Task::AsTold { program, secret: "s", run: &run, trees: &["/usr"] };
    let pod = pod("p", &plan.workloads[0], &common, &task);
    let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
    let sources: Vec<_> =
        volumes.iter().filter_map(|volume| volume["hostPath"]["path"].as_str()).collect();
    let own = format!("/var/lib/propagation/{run}");
    assert_eq!(sources, ["/tmp/fuse-test-bridge", "/tmp/fuse-test-bridge/csi", "/usr", &own]);
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().expect("mounts");
    let usr = mounts.iter().find(|mount| mount["mountPath"] == "/usr").expect("its programs");
    assert_eq!(usr["readOnly"], true);
}

#[test]
fn only_the_producer_is_privileged() {
    let (plan, placement) = (Plan::default(), Placement::default());
    let common = Common {
        namespace: "n",
        run: None,
        bridge: &plan.bridge,
        image: "i",
        placement: &placement,
    };
    let task =
        Task::ByItself { deadlines: &plan.deadlines, allow_other: true, liveness_probe: false };
    for spec in &plan.workloads {
        let pod = pod(&spec.name, spec, &common, &task);
        let privileged = &pod["spec"]["containers"][0]["securityContext"]["privileged"];
        assert_eq!(*privileged, spec.name == "producer", "{}", spec.name);
    }
}

#[test]
fn the_host_pod_and_its_agent() {
    let (run, bridge) = (run(), Bridge::default());
    let maps = config_maps("fuse-test", &run, &vec![7; 2 * 1024 * 1024]);
    let sizes: Vec<usize> =
        maps.iter().map(|map| serde_json::to_vec(map).expect("JSON").len()).collect();
    // The limit of the API server is 1 MiB of data, its limit for a request 3 MiB.
    assert!(sizes.len() == 3 && sizes.iter().all(|size| *size < 1_500_000), "{sizes:?}");
    let from = AgentFrom::ConfigMaps { shell_image: "busybox:1".into(), parts: maps.len() };
    let pods = [
        host_pod("fuse-test", &run, "k3s-w2", &bridge, &from),
        host_pod("fuse-test", &run, "k3s-w2", &bridge, &AgentFrom::Image("agent:1".into())),
    ];
    insta::assert_json_snapshot!("host-pod", pods);
}

#[test]
fn groups_are_the_pods() {
    let (mut plan, placement) = (Plan::default(), Placement::default());
    plan.workloads[1].groups = vec![2000];
    let common = Common {
        namespace: "n",
        run: None,
        bridge: &plan.bridge,
        image: "i",
        placement: &placement,
    };
    let task =
        Task::ByItself { deadlines: &plan.deadlines, allow_other: true, liveness_probe: false };
    let security = |spec| pod("p", spec, &common, &task)["spec"]["securityContext"].take();
    assert_eq!(security(&plan.workloads[1]), json!({ "supplementalGroups": [2000] }));
    assert_eq!(security(&plan.workloads[0]), json!(null));
}

#[test]
fn a_record_is_read_back() {
    let record = Record {
        run: run(),
        node: "k3s-w2".into(),
        bridge: Bridge { path: "/srv/a b".into(), mountpoint: "dfs".into() },
        over_ssh: false,
        image: Some("agent:1".into()),
        operator: "desk/42".into(),
        sign: Some(1_772_272_800),
    };
    let read = |manifest| Record::from_object(&serde_json::from_value(manifest).expect("a map"));
    assert_eq!(read(record.to_manifest("n")), Some(record.clone()));
    let mut other = record.to_manifest("n");
    other["metadata"]["name"] = json!("kube-root-ca.crt");
    assert_eq!(read(other), None);
}

#[test]
fn the_namespace_lets_privileged_pods_in() {
    insta::assert_json_snapshot!("namespace", namespace("fuse-test", Some((&run(), "desk/42/7"))));
}

#[test]
fn a_sidecar_serves_before_its_consumer_starts() {
    let choices = Choices { namespace: "fuse-test".into(), sidecar: true, ..Choices::default() };
    let files = files(&Plan::default(), &choices).expect("YAML");
    let (_, pod) = files.iter().find(|(name, _)| *name == "consumer.yaml").expect("a pod");
    for part in ["initContainers:", "restartPolicy: Always", "startupProbe:"] {
        assert!(pod.contains(part), "{part}: {pod}");
    }
    assert!(files.iter().all(|(name, _)| *name != "producer.yaml"));
    assert!(!files[0].1.contains("producer.yaml"), "{}", files[0].1);
}

#[test]
fn the_manifests() {
    let choices = Choices {
        namespace: "fuse-test".into(),
        node_selector: [("kubernetes.io/hostname".into(), "k3s-w2".into())].into(),
        liveness_probe: true,
        ..Choices::default()
    };
    for (name, content) in files(&Plan::default(), &choices).expect("YAML") {
        insta::assert_snapshot!(format!("manifests-{name}"), content);
    }
}
