//! What runs leave, and who removes it.

use serde_json::{Value, json};

use crate::lab::{full_success, lab, pod_of, signal, under_way};
use crate::support::nodes::{kubectl, kubectl_says};
use crate::support::{PASSED, TestResult, expect_code, expect_part, stderr, stdout};

pub(crate) fn what_a_killed_run_leaves_is_found_and_removed() -> TestResult {
    let lab = lab!();
    let clean = |words: &[&str]| lab.clean(words);
    for line in ["is ready", "host_setup passed", "consumer passed"] {
        let mut child = under_way(&mut lab.run(&[]), line)?;
        signal(&child, "KILL")?;
        let status = child.wait()?;
        if status.code().is_some() {
            return Err(format!("it ended with {status} before it was killed").into());
        }
        let listed = clean(&["--list"]).output()?;
        expect_code(&listed, 0)?;
        expect_part(&stdout(&listed), &format!("node {}", lab.node))?;
        expect_code(&clean(&[]).output()?, 0)?;
        lab.expect_nothing_left()?;
        let again = clean(&[]).output()?;
        expect_code(&again, 0)?;
        expect_part(&stdout(&again), "nothing is left")?;
    }
    PASSED
}

/// What cannot be taken back is named, and is not a success; once it can be, a clean-up does it.
pub(crate) fn what_cannot_be_removed_has_its_own_exit_status() -> TestResult {
    let lab = lab!();
    let mut child = under_way(&mut lab.run(&["--bridge", "/srv/m"]), "consumer passed")?;
    lab.on_node("chattr +i /srv/m")?;
    let status = child.wait()?;
    let clean = |words: &[&str]| lab.clean(words);
    let stuck = clean(&[]).output()?;
    lab.on_node("chattr -i /srv/m")?;
    let cleaned = clean(&[]).output()?;
    if status.code() != Some(7) {
        return Err(format!("it ended with {status}").into());
    }
    expect_code(&stuck, 7)?;
    expect_part(&stdout(&stuck), "could not")?;
    expect_code(&cleaned, 0)?;
    lab.expect_nothing_left()?;
    PASSED
}

pub(crate) fn a_run_that_goes_on_is_named_and_one_that_is_silent_is_removed() -> TestResult {
    let lab = lab!();
    let clean = || {
        let mut command = lab.command(&["clean", "--backend", "k8s"]);
        command.arg("--ssh-config").arg(&lab.ssh_config).output()
    };
    let mut child = under_way(&mut lab.run(&[]), "producer passed")?;
    let (space, _) = pod_of("consumer-early")?;
    let run = space.trim_start_matches("fuse-test-");
    let spared = clean()?;
    signal(&child, "KILL")?;
    child.wait()?;
    expect_code(&spared, 0)?;
    expect_part(&stdout(&spared), &format!("run {run} goes on"))?;
    expect_part(&stdout(&spared), "last sign")?;
    // As if it had been another machine's.
    let record = format!("run-{run}");
    let patch = |patch: Value| {
        let patch = patch.to_string();
        let words = ["--namespace", &space, "patch", "configmap", &record, "--type", "merge"];
        kubectl_says(&[&words[..], &["--patch", &patch]].concat())
    };
    patch(json!({ "data": { "operator": "another-machine/1:1" } }))?;
    expect_part(&stdout(&clean()?), "another-machine")?;
    patch(json!({ "metadata": { "annotations": { "propagation/sign-of-life": "1" } } }))?;
    expect_code(&clean()?, 0)?;
    lab.expect_nothing_left()?;
    PASSED
}

pub(crate) fn an_image_that_is_not_there_leaves_nothing() -> TestResult {
    let lab = lab!();
    let words = ["run", "--backend", "k8s", "--node", &lab.node, "--access", "pod", "--image"];
    let output = lab.command(&words).arg("localhost/nosuch:1").output()?;
    expect_code(&output, 1)?;
    expect_part(&stderr(&output), "nosuch")?;
    lab.expect_nothing_left()?;
    PASSED
}

/// What others have in the run's directories, or mount there meanwhile, is named, and in nobody's way.
pub(crate) fn what_a_run_has_not_made_is_left() -> TestResult {
    let lab = lab!();
    let mut child = under_way(&mut lab.run(&["--bridge", "/srv/m"]), "host_setup passed")?;
    lab.on_node("echo kept > /srv/m/of-somebody")?;
    let status = child.wait()?;
    let kept = lab.on_node("cat /srv/m/of-somebody; rm -r --one-file-system /srv/m")?;
    expect_part(&kept, "kept")?;
    if status.code() != Some(0) {
        return Err(format!("it ended with {status}").into());
    }
    lab.expect_nothing_left()?;
    PASSED
}

pub(crate) fn what_a_run_makes_it_removes() -> TestResult {
    let lab = lab!();
    lab.on_node("mkdir /srv/m")?;
    for bridge in ["/srv/m", "/srv/deep/a/b"] {
        full_success(&lab.run(&["--bridge", bridge]).output()?)?;
    }
    let there = lab.on_node("find /srv/m /srv/deep 2>/dev/null; rm -r --one-file-system /srv/m");
    let there = there?;
    if there.trim() != "/srv/m" {
        return Err(format!("not as it was: {there}").into());
    }
    lab.expect_nothing_left()?;
    PASSED
}

/// Somebody has deleted the namespace of a run, with its record.
pub(crate) fn what_only_a_node_has_of_a_run_is_found_and_removed() -> TestResult {
    let lab = lab!();
    for (mut run, mut clean) in [
        (lab.run(&["--bridge", "/srv/m"]), lab.clean(&[])),
        (
            lab.run_through_a_pod(&["--bridge", "/srv/m"]),
            lab.command(&["clean", "--backend", "k8s"]),
        ),
    ] {
        let mut child = under_way(&mut run, "producer passed")?;
        let (space, _) = pod_of("consumer-early")?;
        signal(&child, "KILL")?;
        child.wait()?;
        kubectl_says(&["delete", "namespace", &space, "--timeout=120s"])?;
        let listed = lab.clean(&["--list"]).output()?;
        expect_part(&stdout(&listed), &format!("node {}, without a record", lab.node))?;
        let cleaned = clean.output()?;
        expect_code(&cleaned, 0)?;
        expect_part(&stdout(&cleaned), "removed /var/lib/propagation")?;
        let bridge = lab.on_node("ls -d /srv/m 2>/dev/null; true")?;
        if !bridge.is_empty() {
            return Err(format!("the bridge is left: {}", stdout(&cleaned)).into());
        }
        lab.expect_nothing_left()?;
    }
    PASSED
}

pub(crate) fn what_cannot_be_cleaned_is_given_up_on_demand() -> TestResult {
    let lab = lab!();
    let mut child = under_way(&mut lab.run(&["--bridge", "/srv/m"]), "consumer passed")?;
    let (space, _) = pod_of("consumer-early")?;
    signal(&child, "KILL")?;
    child.wait()?;
    lab.on_node("chattr +i /srv/m")?;
    let given_up = lab.clean(&["--force"]).output()?;
    let there = kubectl(&["get", "namespace", &space])?;
    lab.on_node("chattr -i /srv/m")?;
    let cleaned = lab.clean(&[]).output()?;
    expect_code(&given_up, 7)?;
    expect_part(&stdout(&given_up), &format!("given up: what node {} has", lab.node))?;
    if there.status.success() {
        return Err("its namespace is still there".into());
    }
    expect_code(&cleaned, 0)?;
    lab.expect_nothing_left()?;
    PASSED
}
