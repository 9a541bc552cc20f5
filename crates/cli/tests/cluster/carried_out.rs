//! What scenarios ask for beyond the built-in programs, carried out in pods.

use serde_json::Value;

use super::support::{PASSED, TestResult, expect_code, expect_part, skip, stderr, stdout};
use super::support::{library, nodes, stuck};
use crate::lab::{Lab, lab, signal, under_way};
use libtest_mimic::Failed;

/// Runs a scenario on the node over ssh; it must come out as it says.
fn as_expected(lab: &Lab, name: &str, yaml: &str, words: &[&str]) -> Result<(), Failed> {
    let file = lab.scratch.path().join(format!("{name}.yaml"));
    std::fs::write(&file, format!("name: {name}\n{yaml}"))?;
    let output = lab.run(&["--patience", "5", "--scenario"]).arg(&file).args(words).output()?;
    if let Err(failed) = expect_code(&output, 0) {
        let said = failed.message().unwrap_or_default().to_owned();
        return Err(format!("{said}\n{}", stdout(&output)).into());
    }
    lab.expect_nothing_left()
}

const BINDFS: &str = r#"
fuse: {command: [bindfs, -f, "{source}", "{mountpoint}"], type: fuse}
workloads:
  - {name: daemon, role: producer}
  - {name: app, role: consumer, order: before_mount}
steps:
  - start: [daemon, app]
    expect: {app: ok}
  - run: [ls, "{mountpoint}"]
    in: app
    expect: {run: {exit: 0, text: producer-marker.txt}}
  - fault: kill
    on: daemon
    expect: {app: ENOTCONN}
  - restart: daemon
    expect: {app: ok}
"#;

pub(crate) fn daemons_and_programs_of_the_node_run_in_pods() -> TestResult {
    let lab = lab!();
    if lab.on_node("command -v bindfs").is_err() {
        return skip("bindfs", "the node has no bindfs");
    }
    as_expected(&lab, "bindfs-in-a-pod", BINDFS, &[])?;
    PASSED
}

/// No signal ends the daemon, so neither can a kubelet; a look hangs with it. Of a run that ends, and of one that was
/// killed.
pub(crate) fn a_daemon_stuck_in_the_kernel_leaves_nothing_on_a_node() -> TestResult {
    let lab = lab!();
    if lab.on_node("command -v python3").is_err() {
        return skip("python3", "the node has no python3");
    }
    let file = lab.scratch.path().join("stuck.yaml");
    let text = format!(
        "name: stuck\ndeadlines: {{probe_ms: 500, marker_ms: 2000}}\nfuse:\n  {}\nworkloads:\n  \
         - {{name: daemon, role: producer}}\n  \
         - {{name: app, role: consumer, order: before_mount}}\nsteps:\n  - start: app\n  \
         - {{start: daemon, expect: {{app: hang}}}}\n  - pause_ms: 20000\n",
        stuck::fuse_of(stuck::DAEMON, "")
    );
    std::fs::write(&file, text)?;
    let stuck = "grep -l '^State:.D' /proc/[0-9]*/status 2>/dev/null | wc -l";
    let output = lab.run(&["--scenario"]).arg(&file).output()?;
    expect_part(&stdout(&output), "cleaned up in")?;
    lab.expect_nothing_left()?;
    let mut child = under_way(lab.run(&["--scenario"]).arg(&file), "phase 3-pause")?;
    let hangs = lab.on_node(stuck)?;
    signal(&child, "KILL")?;
    child.wait()?;
    expect_code(&lab.clean(&[]).output()?, 0)?;
    lab.expect_nothing_left()?;
    let left = lab.on_node(stuck)?;
    if hangs.trim() == "0" || left.trim() != "0" {
        return Err(format!("{hangs} processes were stuck, and {left} are").into());
    }
    PASSED
}

/// An image of the user's has the programs: busybox has no bindfs, and `ls`.
pub(crate) fn programs_of_a_named_image_run_in_pods() -> TestResult {
    const LS: &str = r#"
workloads:
  - {name: fuse, role: producer}
  - {name: app, role: consumer}
steps:
  - start: [fuse, app]
    expect: {app: ok}
  - run: [ls, "{mountpoint}"]
    in: app
    expect: {run: {exit: 0, text: producer-marker.txt}}
"#;
    let lab = lab!();
    let image = lab.busybox()?;
    as_expected(&lab, "programs-of-an-image", LS, &["--program-image", &image])?;
    PASSED
}

pub(crate) fn a_program_that_the_node_has_not_is_a_skip() -> TestResult {
    let lab = lab!();
    let file = lab.scratch.path().join("absent.yaml");
    std::fs::write(&file, BINDFS.replace("bindfs, -f", "no-such-daemon, -f"))?;
    let output = lab.run(&["--scenario"]).arg(&file).output()?;
    expect_code(&output, 5)?;
    expect_part(&stdout(&output), "skipped: the node has no program no-such-daemon")?;
    lab.expect_nothing_left()?;
    PASSED
}

/// Read-only volumes, recursively too, which needs a kernel, a runtime and a kubelet that do it.
pub(crate) fn volumes_are_read_only_as_asked() -> TestResult {
    let lab = lab!();
    let file = library::root().join("scenarios/136-read-only-volumes.yaml");
    let output = lab.run(&["--patience", "5", "--scenario"]).arg(file).output()?;
    expect_code(&output, 0)?;
    lab.expect_nothing_left()?;
    PASSED
}

pub(crate) fn processes_of_the_node_are_workloads() -> TestResult {
    const HOST: &str = r#"
workloads:
  - {name: service, role: producer, host: true}
  - {name: app, role: consumer, order: before_mount}
  - {name: apart, role: consumer, propagation: None, order: before_mount}
steps:
  - start: [apart, app, service]
    expect: {node: ok, app: ok, apart: absent}
  - fault: kill
    on: service
    expect: {node: ENOTCONN, app: ENOTCONN}
  - restart: service
    expect: {node: ok, app: ok}
"#;
    let lab = lab!();
    as_expected(&lab, "a-process-of-the-node", HOST, &[])?;
    PASSED
}

pub(crate) fn faults_of_answers_and_supervisors_are_carried_out() -> TestResult {
    const ANSWERS: &str = r#"
workloads:
  - {name: fuse, role: producer}
  - {name: app, role: consumer}
steps:
  - start: [fuse, app]
    expect: {app: ok}
  - fault: {errors: EIO}
    expect: {app: EIO}
  - fault: {errors: "0"}
    expect: {app: ok}
  - fault: abort
    expect: {app: ENOTCONN}
"#;
    const SUPERVISED: &str = r#"
workloads:
  - {name: fuse, role: producer, supervised: true}
  - {name: app, role: consumer}
steps:
  - start: [fuse, app]
    expect: {app: ok}
  - fault: kill
    expect: {app: ENOTCONN, fuse.program: running}
  - repair: remount
    expect: {app: ok}
"#;
    let lab = lab!();
    as_expected(&lab, "answers", ANSWERS, &[])?;
    as_expected(&lab, "supervised", SUPERVISED, &[])?;
    PASSED
}

pub(crate) fn a_mount_is_handed_over_to_the_next_container() -> TestResult {
    const KEPT: &str = r#"
fuse: {keeper: true}
workloads:
  - {name: fuse, role: producer}
  - {name: app, role: consumer}
steps:
  - start: [fuse, app]
    expect: {app: ok}
  - fault: kill
  - repair: hand_over
    expect: {app: {outcome: ok, device: same}}
"#;
    let lab = lab!();
    as_expected(&lab, "handed-over", KEPT, &[])?;
    PASSED
}

pub(crate) fn scenarios_run_on_several_nodes() -> TestResult {
    const PLAIN: &str = r#"
name: plain
workloads:
  - {name: fuse, role: producer}
  - {name: app, role: consumer}
steps:
  - start: [fuse, app]
    expect: {app: ok}
"#;
    let lab = lab!();
    let names = nodes::names()?;
    let (file, report) = (lab.scratch.path().join("plain.yaml"), lab.scratch.path().join("result"));
    std::fs::write(&file, PLAIN)?;
    let words = ["run", "--backend", "k8s", "--all-nodes", "--access", "ssh", "--scenario"];
    let mut command = lab.command(&words);
    command.arg(&file).arg("--ssh-config").arg(&lab.ssh_config);
    let output = command.arg("--report").arg(&report).output()?;
    expect_code(&output, 0)?;
    for name in &names {
        expect_part(&stdout(&output), &format!("{name}/plain: "))?;
        let json = std::fs::read(report.join(name).join("plain/report.json"))?;
        let json: Value = serde_json::from_slice(&json)?;
        if json["node"] != **name {
            return Err(format!("the report of {name} is of {}", json["node"]).into());
        }
    }
    lab.expect_nothing_left()?;
    PASSED
}

pub(crate) fn doctor_looks_at_every_node() -> TestResult {
    let lab = lab!();
    let names = nodes::names()?;
    let mut command = lab.command(&["doctor", "--backend", "k8s", "--all-nodes"]);
    let output = command.arg("--ssh-config").arg(&lab.ssh_config).output()?;
    if output.status.code() == Some(1) {
        return Err(format!("it failed: {}", stderr(&output)).into());
    }
    let text = stdout(&output);
    for name in &names {
        expect_part(&text, &format!("Node {name}"))?;
    }
    expect_part(&text, "Mounts on the way to the bridge")?;
    lab.expect_nothing_left()?;
    PASSED
}

/// Makes a node one on which pods with user namespaces run: nothing hides a part of /proc, every user may open
/// /dev/fuse, and the filesystem of the run's files can be idmapped.
const SHAPE: &str = "mkdir /run/kept; : > /run/kept/list; number=0
for at in $(awk '$5 ~ \"^/proc/\" { print $5 }' /proc/self/mountinfo); do
    number=$((number + 1)); : > /run/kept/$number
    mount --bind $at /run/kept/$number; umount $at; echo $at >> /run/kept/list
done
mknod -m 666 /run/kept/fuse c 10 229; mount --bind /run/kept/fuse /dev/fuse
mkdir -p -m 700 /var/lib/propagation; mount -t tmpfs -o mode=700 own /var/lib/propagation";

const UNSHAPE: &str =
    "umount /var/lib/propagation; rmdir /var/lib/propagation; umount /dev/fuse; number=0
while read -r at; do
    number=$((number + 1)); mount --bind /run/kept/$number $at; umount /run/kept/$number
done < /run/kept/list
rm -r /run/kept";

/// The scenario of the library, where the runtime makes user namespaces. The bridge is on a filesystem that can be
/// idmapped, and the node as it is says what it lacks.
pub(crate) fn pods_with_user_namespaces_receive_mounts_and_send_none() -> TestResult {
    let lab = lab!();
    let features = "jsonpath={.status.runtimeHandlers[?(@.name==\"\")].features.userNamespaces}";
    let can = nodes::kubectl_says(&["get", "node", &lab.node, "--output", features])?;
    let path = "../../scenarios/113-user-namespace-pod.yaml";
    let library = std::fs::read_to_string(path)?;
    let write = |name: &str, deadline: &str| {
        let bridge = format!("bridge: {{path: /run/idmapped/bridge}}\n{deadline}workloads:");
        let file = lab.scratch.path().join(name);
        std::fs::write(&file, library.replace("workloads:", &bridge)).map(|()| file)
    };
    let run = |file| lab.run(&["--scenario"]).arg(file).output();
    let hasty = write("hasty.yaml", "deadlines: {start_ms: 8000}\n")?;
    if can.trim() != "true" {
        let output = run(hasty)?;
        expect_code(&output, 5)?;
        expect_part(&stdout(&output), "skipped: the kubelet of")?;
        lab.expect_nothing_left()?;
        return PASSED;
    }
    let as_it_is = run(hasty)?;
    if !as_it_is.status.success() {
        let text = stdout(&as_it_is);
        let known = ["findmnt --submounts /proc", "that can be idmapped", "chmod 0666 /dev/fuse"];
        if !known.iter().any(|fix| text.contains(fix)) {
            return Err(format!("nothing says what the node lacks:\n{text}").into());
        }
    }
    lab.on_node(SHAPE)?;
    let output = run(write("patient.yaml", "")?);
    lab.on_node(UNSHAPE)?;
    let output = output?;
    if let Err(failed) = expect_code(&output, 0) {
        let said = failed.message().unwrap_or_default().to_owned();
        return Err(format!("{said}\n{}", stdout(&output)).into());
    }
    lab.expect_nothing_left()?;
    PASSED
}
