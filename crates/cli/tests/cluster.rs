//! Runs on a real cluster, how they end and what they leave: that of `KUBECONFIG`, whose nodes the ssh configuration of
//! `PROPAGATION_SSH_CONFIG` knows by their names. Without one every test is skipped, and counted.

#[path = "cluster/ends.rs"]
mod ends;
#[path = "cluster/lab.rs"]
mod lab;
#[path = "cluster/left.rs"]
mod left;
#[path = "cluster/paths.rs"]
mod paths;
#[path = "cluster/rights.rs"]
mod rights;
mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use lab::{full_success, import_image, lab, signal, under_way};
use serde_json::Value;
use support::nodes::{kubectl, kubectl_says};
use support::{PASSED, TestResult, expect_code, expect_part, stdout, tests};

fn main() {
    support::main(tests![
        over_ssh_it_is_full_success_and_nothing_is_left,
        an_imported_image_will_do,
        ends::a_producer_whose_pod_is_deleted_comes_back_as_another,
        through_a_host_pod_it_is_full_success_too,
        one_node_that_fails_does_not_spoil_the_other,
        ends::a_pod_that_somebody_takes_away_is_named,
        ends::an_interrupted_run_is_cleaned_up,
        ends::without_room_for_all_pods_nothing_is_left,
        paths::a_read_only_bridge_is_named_and_nothing_is_left,
        ends::interrupted_again_it_writes_the_report_and_waits_no_more,
        left::what_a_killed_run_leaves_is_found_and_removed,
        rights::strangers_are_told_nothing,
        rights::what_is_executed_in_a_container_may_do_what_it_may,
        ends::a_run_ends_when_its_host_agent_is_killed,
        ends::a_run_ends_when_its_node_is_started_again,
        a_named_image_will_do_through_a_pod,
        paths::bridges_that_cannot_be_one_are_refused,
        paths::a_path_below_a_link_is_where_it_leads,
        left::what_a_run_has_not_made_is_left,
        left::what_a_run_makes_it_removes,
        paths::a_sub_path_that_the_kubelet_has_made_is_removed,
        paths::a_disk_that_may_not_execute_is_named_and_left_as_it_was,
        paths::a_full_disk_is_named_and_left_as_it_was,
        left::what_only_a_node_has_of_a_run_is_found_and_removed,
        left::what_cannot_be_cleaned_is_given_up_on_demand,
        left::what_cannot_be_removed_has_its_own_exit_status,
        left::a_run_that_goes_on_is_named_and_one_that_is_silent_is_removed,
        left::an_image_that_is_not_there_leaves_nothing,
        rights::few_rights_are_enough,
        ends::a_run_goes_on_when_the_api_server_was_away,
        rights::what_is_wrong_with_ssh_is_said,
        rights::a_namespace_of_somebody_else_is_refused,
        the_manifests_work_by_hand,
        ends::a_silent_kubelet_is_named
    ]);
}

fn over_ssh_it_is_full_success_and_nothing_is_left() -> TestResult {
    let lab = lab!();
    let report = lab.scratch.path().join("result");
    let output = lab.run(&["--report"]).arg(&report).output()?;
    full_success(&output)?;
    let json: Value = serde_json::from_slice(&std::fs::read(report.join("report.json"))?)?;
    for (field, value) in [("backend", "k8s"), ("node", &*lab.node)] {
        if json[field] != value {
            return Err(format!("{field} is {}", json[field]).into());
        }
    }
    // The consumer's log is as `kubectl logs` shows it.
    expect_part(&json["logs"].to_string(), "SUCCESS: Producer marker found")?;
    expect_part(&json["logs"].to_string(), "ERROR: Mount became inaccessible!")?;
    expect_part(&json["environment"]["kubelet"].to_string(), "v1.")?;
    lab.expect_nothing_left()?;
    PASSED
}

fn an_imported_image_will_do() -> TestResult {
    let lab = lab!();
    full_success(&lab.run(&["--import-image"]).output()?)?;
    lab.expect_nothing_left()?;
    PASSED
}

fn through_a_host_pod_it_is_full_success_too() -> TestResult {
    let lab = lab!();
    let words = ["run", "--backend", "k8s", "--node", &lab.node, "--access", "pod"];
    full_success(&lab.command(&words).output()?)?;
    lab.expect_nothing_left()?;
    PASSED
}

fn one_node_that_fails_does_not_spoil_the_other() -> TestResult {
    let lab = lab!();
    let nodes = format!("{},no-such-node", lab.node);
    let words = ["run", "--backend", "k8s", "--access", "pod", "--node", &nodes];
    let output = lab.command(&words).output()?;
    expect_code(&output, 1)?;
    let text = stdout(&output);
    expect_part(&text, "Verdict: full_success (scenario A)")?;
    expect_part(
        &text,
        "nodes \"no-such-node\" not found (list the nodes with: kubectl get nodes)",
    )?;
    lab.expect_nothing_left()?;
    PASSED
}

/// Through a host pod whose image has the agent; and what is left of such a run is removed by a clean-up that
/// knows nothing of the image.
fn a_named_image_will_do_through_a_pod() -> TestResult {
    let lab = lab!();
    import_image(&lab)?;
    let image = propagation_backend_k8s::oci::image_name();
    let run = || {
        let words = ["run", "--backend", "k8s", "--node", &lab.node, "--access", "pod", "--image"];
        let mut command = lab.command(&words);
        command.arg(&image);
        command
    };
    full_success(&run().output()?)?;
    lab.expect_nothing_left()?;
    let mut child = under_way(&mut run(), "producer passed")?;
    signal(&child, "KILL")?;
    child.wait()?;
    expect_code(&lab.command(&["clean", "--backend", "k8s"]).output()?, 0)?;
    lab.expect_nothing_left()?;
    PASSED
}

fn the_manifests_work_by_hand() -> TestResult {
    let lab = lab!();
    import_image(&lab)?;
    let tree = lab.scratch.path().join("tree");
    let mut command = lab.command(&["manifests", "--liveness-probe", "--node", &lab.node]);
    expect_code(&command.arg(&tree).output()?, 0)?;
    let directory = tree.to_str().ok_or("a path that is text")?;
    kubectl_says(&["apply", "-k", directory])?;
    let followed = ["--namespace", "fuse-test", "wait", "--for=condition=Ready", "--timeout=60s"];
    let ready = kubectl(&[&followed[..], &["pod", "--all"]].concat())?;
    let mut logs = Command::new("kubectl")
        .args(["--namespace", "fuse-test", "logs", "--follow", "consumer-late"])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = logs.stdout.take().ok_or("no standard output")?;
    let found = BufReader::new(output)
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains("[Consumer Ready]"));
    logs.kill()?;
    logs.wait()?;
    kubectl_says(&["delete", "-k", directory, "--wait=false"])?;
    kubectl_says(&["wait", "--for=delete", "namespace/fuse-test", "--timeout=120s"])?;
    lab.on_node(
        "umount --lazy /tmp/fuse-test-bridge/dfs; rm -rf --one-file-system /tmp/fuse-test-bridge",
    )?;
    expect_code(&ready, 0)?;
    if !found {
        return Err("the consumer's log does not get to [Consumer Ready]".into());
    }
    lab.expect_nothing_left()?;
    PASSED
}
