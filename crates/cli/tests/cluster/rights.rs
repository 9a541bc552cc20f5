//! Who may do what: strangers on the node, programs in containers, the operator.

use std::path::PathBuf;
use std::time::Duration;

use libtest_mimic::Failed;
use propagation_backend_k8s::{Access, K8sBackend, K8sOptions, SshOptions};
use propagation_core::journal::HostChange;
use propagation_core::marker::Marker;
use propagation_core::observation::Actor;
use propagation_core::{Backend, Node, Plan, Run, RunId};
use serde_json::{Value, json};

use crate::lab::{full_success, lab, pod_of, under_way};
use crate::support::nodes::kubectl_says;
use crate::support::{PASSED, TestResult, expect_code, expect_part, stderr, stdout};

/// A user of the node, and a pod of somebody else that has the run's directory and says to be every
/// container of the run there could be.
pub(crate) fn strangers_are_told_nothing() -> TestResult {
    const CONTAINERS: u32 = 10;
    let lab = lab!();
    let child = under_way(&mut lab.run(&[]), "producer passed")?;
    let (space, early) = pod_of("consumer-early")?;
    let path = "jsonpath={.spec.containers[0].image}";
    let image = kubectl_says(&["--namespace", &space, "get", "pod", &early, "--output", path])?;
    let run = space.trim_start_matches("fuse-test-");
    let directory = format!("/var/lib/propagation/{run}");
    let user = format!("setpriv --reuid 65534 --clear-groups ls {directory} 2>&1 || true");
    expect_part(&lab.on_node(&user)?, "Permission denied")?;
    let containers: Vec<Value> = (0..CONTAINERS)
        .map(|number| {
            json!({
                "name": format!("c{number}"), "image": image, "imagePullPolicy": "IfNotPresent",
                "command": [
                    "/run/propagation/agent", "program", "--container", number.to_string(),
                    "--socket", "/run/propagation/programs.sock",
                ],
                "env": [{ "name": "PROPAGATION_SECRET", "value": "guessed" }],
                "volumeMounts": [{ "name": "run", "mountPath": "/run/propagation" }],
            })
        })
        .collect();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "stranger" },
        "spec": {
            "nodeName": lab.node, "restartPolicy": "Never", "containers": containers,
            "securityContext": { "runAsUser": 65534, "runAsGroup": 65534 },
            "volumes": [{ "name": "run", "hostPath": { "path": directory } }],
        },
    });
    let file = lab.scratch.path().join("stranger.json");
    std::fs::write(&file, pod.to_string())?;
    kubectl_says(&["apply", "--filename", file.to_str().ok_or("a path that is text")?])?;
    let result = child.wait_with_output()?;
    let logs = ["logs", "stranger", "--all-containers", "--prefix"];
    let told = kubectl_says(&logs);
    kubectl_says(&["delete", "pod", "stranger", "--grace-period=1"])?;
    expect_code(&result, 0)?;
    expect_part(&stdout(&result), "Verdict: full_success (scenario A)")?;
    let told = told?;
    if !told.trim().is_empty() {
        return Err(format!("a stranger was told something: {told}").into());
    }
    lab.expect_nothing_left()?;
    PASSED
}

/// Through the library, as process 1 there.
pub(crate) fn what_is_executed_in_a_container_may_do_what_it_may() -> TestResult {
    let lab = lab!();
    let options = K8sOptions {
        node: Some(lab.node.clone()),
        access: Access::Ssh,
        ssh: SshOptions { config: Some(lab.ssh_config.clone()), ..SshOptions::default() },
        image: Some(lab.busybox()?),
        ..K8sOptions::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let run = Run::new(RunId::generate()?);
        let node = K8sBackend::connect(options).await?.open(&Plan::default(), &run).await?;
        let compared = as_process_1(&*node).await;
        let cleanup = node.close().await;
        compared?;
        if cleanup.could_not.is_empty() {
            Ok(())
        } else {
            Err(Failed::from(format!("{cleanup:?}")))
        }
    })?;
    lab.expect_nothing_left()?;
    PASSED
}

/// Compares what a program has that is executed in a consumer's container with what process 1 there has.
async fn as_process_1(node: &dyn Node) -> Result<(), Failed> {
    let plan = Plan::default();
    let early = plan.workloads.iter().find(|spec| spec.name == "consumer-early");
    let early = early.ok_or("the plan has an early consumer")?.clone();
    let directory = HostChange::MakeDirectory { path: plan.bridge.path.clone(), owner: 0 };
    node.apply(&directory).await?;
    let marker = Marker { started: "now".into(), generation: 1, nonce: "n0nce".into() };
    let started = node.start(std::slice::from_ref(&early), &marker).await?;
    for started in started {
        started.map_err(|refusal| refusal.text)?;
    }
    let actor = Actor::Workload { name: early.name, replica: 0 };
    let mut seen = Vec::new();
    for process in ["1", "self"] {
        let line = format!(
            "grep -E '^(Uid|Gid|Cap.*|NoNewPrivs|Seccomp):' /proc/{process}/status; \
             cut -d: -f2- /proc/{process}/cgroup; \
             for kind in user pid mnt net ipc uts; do readlink /proc/{process}/ns/$kind; done"
        );
        let command = ["sh".to_owned(), "-c".to_owned(), line];
        let executed = node.execute(&actor, &command, Duration::from_secs(10)).await??;
        if executed.exit_code() != Some(0) {
            return Err(format!("{executed:?}").into());
        }
        seen.push(executed.output);
    }
    expect_part(&seen[0], "CapEff:")?;
    if seen[0] != seen[1] {
        return Err(format!("process 1 has\n{}\nand the program\n{}", seen[0], seen[1]).into());
    }
    let (slow, late) = (["sleep".to_owned(), "60".to_owned()], Duration::from_millis(300));
    let executed = node.execute(&actor, &slow, late).await??;
    if executed.state.is_some() {
        return Err(format!("it was not ended: {executed:?}").into());
    }
    Ok(())
}

pub(crate) fn few_rights_are_enough() -> TestResult {
    let lab = lab!();
    let manifests = lab.scratch.path().join("manifests");
    expect_code(&lab.command(&["manifests"]).arg(&manifests).output()?, 0)?;
    let rbac = manifests.join("rbac.yaml");
    let rbac = rbac.to_str().ok_or("a path that is text")?;
    kubectl_says(&["apply", "--filename", rbac])?;
    let account = "system:serviceaccount:default:propagation-operator";
    let kubeconfig = lab.kubeconfig(|config| config["users"][0]["user"]["as"] = json!(account))?;
    let words = ["run", "--backend", "k8s", "--node", &lab.node, "--access", "pod", "--kubeconfig"];
    let with_role = lab.command(&words).arg(&kubeconfig).output()?;
    kubectl_says(&["delete", "--filename", rbac])?;
    let without = lab.command(&words).arg(&kubeconfig).output()?;
    full_success(&with_role)?;
    expect_code(&without, 1)?;
    expect_part(&stderr(&without), "cannot get resource \"nodes\"")?;
    expect_part(&stderr(&without), "rbac.yaml")?;
    lab.expect_nothing_left()?;
    PASSED
}

pub(crate) fn what_is_wrong_with_ssh_is_said() -> TestResult {
    let lab = lab!();
    let good = std::fs::read_to_string(&lab.ssh_config)?;
    let write = |name: &str, text: &str| -> Result<PathBuf, Failed> {
        let path = lab.scratch.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    };
    // The first value that ssh finds counts.
    let nobody = write("nobody", &format!("Host *\n  Port 1\n{good}"))?;
    let known = write("known_hosts", "")?;
    let unknown = format!("Host *\n  UserKnownHostsFile {}\n{good}", known.display());
    let unknown = write("unknown", &unknown)?;
    for (config, words, fix) in [
        (nobody, "refused", "--access pod"),
        (unknown, "Host key verification failed", "ssh-keygen -R"),
    ] {
        let mut command = lab.command(&["run", "--backend", "k8s", "--node", &lab.node]);
        let output = command.args(["--access", "ssh", "--ssh-config"]).arg(config).output()?;
        expect_code(&output, 1)?;
        expect_part(&stderr(&output), words)?;
        expect_part(&stderr(&output), fix)?;
    }
    lab.expect_nothing_left()?;
    PASSED
}

pub(crate) fn a_namespace_of_somebody_else_is_refused() -> TestResult {
    let lab = lab!();
    let output = lab.run(&["--namespace", "default"]).output()?;
    expect_code(&output, 2)?;
    expect_part(&stderr(&output), "this program has not made it")?;
    PASSED
}
