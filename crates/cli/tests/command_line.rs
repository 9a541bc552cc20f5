//! The command line as its users see it: exit statuses, formats, bad input.

mod support;

use std::fs;
use std::path::Path;

use regex::Regex;
use support::{
    PASSED, TestResult, expect_code, expect_part, output, scratch, skip, stderr, stdout, tests,
};

fn main() {
    support::main(tests![
        five_phases_give_full_success,
        json_is_a_report_that_renders_again,
        a_report_directory_gets_both_files,
        reports_and_logs_are_for_their_user_alone,
        a_relative_state_directory_is_ignored,
        variables_of_daemons_are_in_no_report_unless_asked_for,
        partial_success_is_3_and_names_the_intervention,
        a_private_covering_mount_is_5_with_the_fix,
        a_stopped_daemon_is_a_hang_and_ends,
        a_clean_unmount_is_told_from_a_crash,
        bad_bridges_are_2_with_the_fix,
        odd_bridges_work,
        a_misspelt_flag_gets_a_suggestion,
        values_that_cannot_be_meant_are_2,
        a_file_that_is_skipped_is_counted_as_skipped_everywhere,
        kept_nodes_are_named_for_several_files_and_with_q,
        every_help_has_an_example,
        clean_has_no_options_of_runs,
        the_schema_is_json,
        completions_for_every_shell,
        a_damaged_report_is_2,
        input_that_has_no_end_is_2,
        what_a_step_is_called_cannot_reach_the_terminal,
        an_unwritable_report_directory_is_2_before_anything_runs,
        a_full_log_disk_is_a_warning,
        a_closed_pipe_is_not_an_error,
        doctor_reads_this_host,
        probe_tells_states_apart,
        no_color_without_a_terminal,
        the_five_phases_run_with_any_daemon,
        a_comparison_takes_one_node
    ]);
}

fn five_phases_give_full_success() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run"]);
    expect_code(&result, 0)?;
    let text = stdout(&result);
    for phase in ["host_setup", "producer", "consumer", "stale_mount", "recovery"] {
        expect_part(&text, &format!("{phase}: passed"))?;
    }
    expect_part(&text, "Verdict: full_success (scenario A)")?;
    expect_part(&stderr(&result), "log: ")?;
    let logs: Vec<_> = fs::read_dir(scratch.path().join("propagation"))?.collect();
    if logs.len() != 1 {
        return Err(format!("{} log files", logs.len()).into());
    }
    let log = fs::read_to_string(logs[0].as_ref().expect("an entry").path())?;
    expect_part(&log, "verdict full_success")?;
    PASSED
}

fn json_is_a_report_that_renders_again() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--format", "json"]);
    expect_code(&result, 0)?;
    let saved = scratch.path().join("saved.json");
    fs::write(&saved, &result.stdout)?;
    let path = saved.to_str().expect("UTF-8");
    let again = output(scratch.path(), &["report", path, "--format", "json"]);
    expect_code(&again, 0)?;
    let values: [serde_json::Value; 2] =
        [&result.stdout, &again.stdout].map(|json| serde_json::from_slice(json).expect("JSON"));
    if values[0] != values[1] {
        return Err("the report changed on its way through `report`".into());
    }
    for field in ["schema_version", "run_id", "verdict", "phases", "timeline", "acts", "cleanup"] {
        if values[0].get(field).is_none_or(serde_json::Value::is_null) {
            return Err(format!("the report has no {field}").into());
        }
    }
    let schema = output(scratch.path(), &["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout)?;
    if let Err(error) = jsonschema::validate(&schema, &values[0]) {
        return Err(format!("the report does not match the schema: {error}").into());
    }
    PASSED
}

fn a_report_directory_gets_both_files() -> TestResult {
    let scratch = scratch();
    let directory = scratch.path().join("a/b");
    expect_code(
        &output(scratch.path(), &["run", "--report", directory.to_str().expect("UTF-8")]),
        0,
    )?;
    expect_part(&fs::read_to_string(directory.join("report.txt"))?, "Verdict: full_success")?;
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(directory.join("report.json"))?)?;
    let logs = json["logs"].to_string();
    for line in [
        "SUCCESS: Producer marker found at ",
        "=== Full /mnt/dfs Contents ===",
        "=== Reading Producer Files ===",
        "producer-started-",
        "[Consumer Ready]",
        "] Mount is accessible",
        "] ERROR: Mount became inaccessible!",
    ] {
        expect_part(&logs, line)?;
    }
    PASSED
}

fn reports_and_logs_are_for_their_user_alone() -> TestResult {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let scratch = scratch();
    let out = scratch.path().join("out");
    fs::create_dir(&out)?;
    let important = scratch.path().join("important");
    fs::write(&important, "kept")?;
    for name in ["report.json", "run.log"] {
        symlink(&important, out.join(name))?;
    }
    let name = out.to_str().expect("UTF-8");
    expect_code(&output(scratch.path(), &["run", "--report", name]), 0)?;
    if fs::read_to_string(&important)? != "kept" {
        return Err("a link in the directory was followed".into());
    }
    expect_part(&fs::read_to_string(out.join("run.log"))?, "verdict full_success")?;
    let logs = scratch.path().join("propagation");
    let mode = |path: &std::path::Path| fs::symlink_metadata(path).map(|m| m.permissions().mode());
    if mode(&logs)? & 0o7777 != 0o700 {
        return Err(format!("the directory of logs has the mode {:o}", mode(&logs)?).into());
    }
    for directory in [out, logs] {
        for file in fs::read_dir(directory)? {
            let file = file?.path();
            if mode(&file)? != 0o100_600 {
                return Err(format!("{} has the mode {:o}", file.display(), mode(&file)?).into());
            }
        }
    }
    PASSED
}

/// Two daemons that do not mount: what they are given is what matters.
const WITH_SECRETS: &str = "\
fuse: {command: [sh, -c, 'exit 3'], environment: {PASSWORD: hunter2-of-all}}
workloads:
- {name: first, role: producer}
- name: second
  role: producer
  fuse: {command: [sh, -c, 'exit 3'], environment: {TOKEN: hunter2-of-one}}
- {name: app, role: consumer}
steps:
- {start: [first, second, app], expect: {first: mount_error, second: mount_error}}
";

fn variables_of_daemons_are_in_no_report_unless_asked_for() -> TestResult {
    let scratch = scratch();
    let at = |name: &str| scratch.path().join(name).to_str().expect("UTF-8").to_owned();
    fs::write(at("s.yaml"), WITH_SECRETS)?;
    let run = |out: &str, more: &[&str]| {
        let (file, out) = (at("s.yaml"), at(out));
        let words = ["run", "--scenario", &file, "--report", &out, "--format", "json"];
        output(scratch.path(), &[&words, more].concat())
    };
    let (hidden, shown) = (run("hidden", &[]), run("shown", &["--with-secrets"]));
    expect_code(&hidden, 0)?;
    expect_code(&shown, 0)?;
    for name in ["report.json", "report.txt", "report.md", "report.html", "junit.xml", "run.log"] {
        let text = fs::read_to_string(scratch.path().join("hidden").join(name))?;
        if text.contains("hunter2") {
            return Err(format!("{name} holds a value").into());
        }
    }
    expect_part(&stdout(&shown), "hunter2-of-one")?;
    let again = |name: &str| {
        let report = format!("{}/report.json", at(name));
        let plan = output(scratch.path(), &["report", &report, "--format", "plan"]);
        fs::write(at("plan.yaml"), plan.stdout).expect("written");
        output(scratch.path(), &["run", "--scenario", &at("plan.yaml")])
    };
    expect_code(&again("shown"), 0)?;
    let refused = again("hidden");
    expect_code(&refused, 2)?;
    let place = Regex::new(r"plan\.yaml:\d+:\d+: no value").expect("valid");
    if !place.is_match(&stderr(&refused)) {
        return Err(format!("not refused at its place: {}", stderr(&refused)).into());
    }
    expect_part(&stderr(&refused), "fix: write the value here")?;
    let plan = fs::read_to_string(at("plan.yaml"))?;
    expect_part(&plan, "\"PASSWORD\": null")?;
    expect_part(&plan, "\"TOKEN\": null")?;
    PASSED
}

fn a_relative_state_directory_is_ignored() -> TestResult {
    let scratch = scratch();
    let result = support::propagation(scratch.path(), &["run"])
        .current_dir(scratch.path())
        .env("XDG_STATE_HOME", "relative")
        .env("HOME", scratch.path())
        .output()?;
    expect_code(&result, 0)?;
    if scratch.path().join("relative").exists() {
        return Err("the relative path was taken".into());
    }
    let logs = fs::read_dir(scratch.path().join(".local/state/propagation"))?.count();
    if logs == 1 { PASSED } else { Err(format!("{logs} logs").into()) }
}

fn partial_success_is_3_and_names_the_intervention() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--volume", "mountpoint"]);
    expect_code(&result, 3)?;
    let text = stdout(&result);
    expect_part(&text, "re-bind inside the consumers' mount namespaces")?;
    expect_part(&text, "transport endpoint is not connected")?;
    expect_part(&text, "livenessProbe:")?;
    PASSED
}

fn a_private_covering_mount_is_5_with_the_fix() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--covering", "private"]);
    expect_code(&result, 5)?;
    expect_part(&stdout(&result), "mount --make-rshared /tmp")?;
    PASSED
}

fn a_stopped_daemon_is_a_hang_and_ends() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--fault", "stop"]);
    expect_code(&result, 3)?;
    expect_part(&stdout(&result), "no_hang: node, consumer-early, consumer-late: hang")?;
    PASSED
}

fn a_clean_unmount_is_told_from_a_crash() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--fault", "terminate", "--evidence"]);
    expect_code(&result, 0)?;
    expect_part(&stdout(&result), "breakage_seen: node, consumer-early, consumer-late: absent")?;
    PASSED
}

fn bad_bridges_are_2_with_the_fix() -> TestResult {
    let scratch = scratch();
    for path in ["relative", "/", "/tmp/../x", "/tmp//x", "/proc/x", ""] {
        let result = output(scratch.path(), &["run", "--bridge", path]);
        expect_code(&result, 2)?;
        expect_part(&stderr(&result), "fix: ")?;
    }
    PASSED
}

fn values_that_cannot_be_meant_are_2() -> TestResult {
    let scratch = scratch();
    let axes = scratch.path().join("axes.yaml");
    fs::write(&axes, "{}\n")?;
    let axes = axes.to_str().ok_or("the path is not text")?;
    for (arguments, part) in [
        (&["probe", "/proc", "--sentinel", "../x"][..], "it is a path"),
        (&["run", "--producer-command", ""], "it is empty"),
        (&["run", "--producer-command", "bindfs -f {source} {mountpoint"], "has no {mountpoint}"),
        (&["matrix", "--axes", axes], "no axis in it"),
        (&["manifests", "out", "--namespace", "Bad_NS"], "cannot be the name of a namespace"),
        (&["manifests", "out", "--node", "x y"], "cannot be the name of a node"),
        (&["manifests", "out", "--tolerate", "a b"], "is not a taint"),
    ] {
        let result = output(scratch.path(), arguments);
        expect_code(&result, 2)?;
        expect_part(&stderr(&result), part)?;
        if stderr(&result).contains("propagation-agent") {
            return Err(format!("{arguments:?} shows the agent's usage").into());
        }
    }
    PASSED
}

/// Options for two files that each only start a producer, the second with another line.
fn two_files(directory: &Path, more: &str) -> std::io::Result<[String; 4]> {
    let text = "workloads: [{name: d, role: producer}]\nsteps: [{start: d, expect: {node: ok}}]\n";
    let [a, b] = ["a.yaml", "b.yaml"].map(|name| directory.join(name));
    fs::write(&a, text)?;
    fs::write(&b, format!("{more}{text}"))?;
    let option = || "--scenario".to_owned();
    Ok([option(), a.display().to_string(), option(), b.display().to_string()])
}

fn a_file_that_is_skipped_is_counted_as_skipped_everywhere() -> TestResult {
    let scratch = scratch();
    let files = two_files(scratch.path(), "since: \"99.0\"\n")?;
    let out = scratch.path().join("out").display().to_string();
    let mut arguments = vec!["run", "--report", &out];
    arguments.extend(files.iter().map(String::as_str));
    let result = output(scratch.path(), &arguments);
    expect_code(&result, 0)?;
    expect_part(&stdout(&result), "1 as expected, 0 otherwise, 1 skipped")?;
    let page = fs::read_to_string(scratch.path().join("out/index.html"))?;
    if page.contains("No report") {
        return Err("the index has a skipped file without a report".into());
    }
    expect_part(&page, "expected from Linux 99.0 on")?;
    PASSED
}

fn kept_nodes_are_named_for_several_files_and_with_q() -> TestResult {
    let scratch = scratch();
    let files = two_files(scratch.path(), "")?;
    let run_id = Regex::new(r"--run-id ([a-z0-9-]+)")?;
    for (quiet, files) in [(false, &files[..]), (true, &files[..]), (true, &files[..2])] {
        let mut arguments = vec!["run", "--keep"];
        arguments.extend(quiet.then_some("-q"));
        arguments.extend(files.iter().map(String::as_str));
        let result = output(scratch.path(), &arguments);
        let text = stdout(&result);
        let kept: Vec<_> = run_id.captures_iter(&text).map(|found| found[1].to_owned()).collect();
        for run in &kept {
            expect_code(&output(scratch.path(), &["clean", "--run-id", run]), 0)?;
        }
        expect_code(&result, 0)?;
        if kept.len() * 2 != files.len() {
            return Err(format!("{} kept nodes in {text}", kept.len()).into());
        }
    }
    PASSED
}

fn odd_bridges_work() -> TestResult {
    let scratch = scratch();
    for path in [
        "/tmp/trailing/",
        "/tmp/with space",
        "/tmp/new\nline",
        "/srv/deep/er/bridge",
        "/bridge",
        "/tmp/ü#\\\t",
    ] {
        let result = output(scratch.path(), &["run", "--bridge", path]);
        expect_code(&result, 0)?;
        if stdout(&result).contains('\t') {
            return Err("a control character of the path reached the terminal".into());
        }
    }
    PASSED
}

fn a_misspelt_flag_gets_a_suggestion() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--brigde", "/tmp/x"]);
    expect_code(&result, 2)?;
    expect_part(&stderr(&result), "--bridge")?;
    PASSED
}

fn every_help_has_an_example() -> TestResult {
    let scratch = scratch();
    for command in ["run", "doctor", "probe", "report", "clean", "schema", "completions"] {
        let result = output(scratch.path(), &[command, "--help"]);
        expect_code(&result, 0)?;
        expect_part(&stdout(&result), &format!("Example:\n  propagation {command}"))?;
    }
    PASSED
}

fn clean_has_no_options_of_runs() -> TestResult {
    let scratch = scratch();
    let help = stdout(&output(scratch.path(), &["clean", "--help"]));
    for (option, words) in [("--apply", &["--apply"][..]), ("--parallel", &["--parallel", "2"])] {
        if help.contains(option) {
            return Err(format!("{option} is in the help of clean").into());
        }
        let all = [&["clean", "--backend", "k8s"], words].concat();
        let result = output(scratch.path(), &all);
        expect_code(&result, 2)?;
        expect_part(&stderr(&result), &format!("{option} is an option of `propagation run`"))?;
    }
    PASSED
}

fn the_schema_is_json() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["schema"]);
    expect_code(&result, 0)?;
    let schema: serde_json::Value = serde_json::from_slice(&result.stdout)?;
    expect_part(&schema["title"].to_string(), "Report")?;
    PASSED
}

fn completions_for_every_shell() -> TestResult {
    let scratch = scratch();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let result = output(scratch.path(), &["completions", shell]);
        expect_code(&result, 0)?;
        expect_part(&stdout(&result), "propagation")?;
    }
    PASSED
}

fn a_damaged_report_is_2() -> TestResult {
    let scratch = scratch();
    let path = scratch.path().join("r.json");
    let name = path.to_str().expect("UTF-8");
    for content in ["", "{", "[]", "{\"schema_version\": 99}", "{\"schema_version\": 1}"] {
        fs::write(&path, content)?;
        let result = output(scratch.path(), &["report", name]);
        expect_code(&result, 2)?;
        expect_part(&stderr(&result), "fix: ")?;
    }
    expect_code(&output(scratch.path(), &["report", "/nonexistent.json"]), 2)?;
    PASSED
}

fn input_that_has_no_end_is_2() -> TestResult {
    let scratch = scratch();
    let fifo = scratch.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status()?;
    if !made.success() {
        return Err("mkfifo failed".into());
    }
    let large = scratch.path().join("large.json");
    fs::File::create(&large)?.set_len(1 << 40)?;
    let (fifo, large) = (fifo.to_str().expect("UTF-8"), large.to_str().expect("UTF-8"));
    for (words, reason) in [
        (["report", "/dev/zero"].as_slice(), "it is not a regular file"),
        (&["report", fifo], "it is not a regular file"),
        (&["report", large], "it is larger than"),
        (&["run", "--scenario", fifo], "it is not a regular file"),
        (&["run", "--scenario", large], "it is larger than"),
        (&["matrix", "--axes", fifo], "it is not a regular file"),
    ] {
        let result = support::propagation_within(scratch.path(), words, "20");
        expect_code(&result, 2)?;
        expect_part(&stderr(&result), reason)?;
    }
    PASSED
}

fn what_a_step_is_called_cannot_reach_the_terminal() -> TestResult {
    let scratch = scratch();
    let file = scratch.path().join("s.yaml");
    let steps = "steps:\n- {start: all, name: \"a\\e[2Jb\"}\n";
    let who = "workloads:\n- {name: p, role: producer}\n- {name: c, role: consumer}\n";
    fs::write(&file, format!("title: \"t\\e]0;x\\a\"\n{who}{steps}"))?;
    let out = scratch.path().join("out");
    let words = [
        "run",
        "--scenario",
        file.to_str().expect("UTF-8"),
        "--report",
        out.to_str().expect("UTF-8"),
    ];
    let result = output(scratch.path(), &words);
    let log = fs::read_to_string(out.join("run.log"))?;
    expect_part(&log, "a\\u{1b}[2Jb")?;
    if [result.stdout, result.stderr, log.into_bytes()].concat().contains(&0x1b) {
        return Err("an escape sequence came through".into());
    }
    PASSED
}

fn an_unwritable_report_directory_is_2_before_anything_runs() -> TestResult {
    let scratch = scratch();
    let file = scratch.path().join("file");
    fs::write(&file, "")?;
    let below = file.join("below");
    let result = output(scratch.path(), &["run", "--report", below.to_str().expect("UTF-8")]);
    expect_code(&result, 2)?;
    expect_part(&stderr(&result), "--report")?;
    PASSED
}

fn a_full_log_disk_is_a_warning() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--log-dir", "/dev/null/x"]);
    expect_code(&result, 0)?;
    expect_part(&stderr(&result), "warning: no log file")?;
    PASSED
}

fn a_closed_pipe_is_not_an_error() -> TestResult {
    let scratch = scratch();
    let mut child = support::propagation(scratch.path(), &["schema"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    drop(child.stdout.take());
    let result = child.wait_with_output()?;
    expect_code(&result, 0)?;
    PASSED
}

fn doctor_reads_this_host() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["doctor", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&result.stdout)?;
    // What covers the bridge decides, whatever else this machine has.
    for (propagation, status) in [("shared", 0), ("slave", 5), ("private", 5)] {
        if support::is_root() {
            let script = format!(
                "mkdir \"$SCRATCH/disk\"\nmount -t tmpfs none \"$SCRATCH/disk\"\n\
                 mount --make-{propagation} \"$SCRATCH/disk\"\n\
                 exec \"$PROPAGATION\" doctor --bridge \"$SCRATCH/disk/bridge\""
            );
            expect_code(&support::in_private_namespace(&script), status)?;
        }
    }
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    if json["facts"]["kernel_release"] != kernel.trim() {
        return Err("doctor reports another kernel".into());
    }
    let features = json["facts"]["kernel"].as_array().ok_or("nothing of the kernel's features")?;
    let of = |name: &str| features.iter().find(|fact| fact["feature"] == name);
    // What can be asked without a right is asked.
    for name in ["listmount", "mount_events"] {
        let fact = of(name).ok_or("a feature is missing")?;
        if fact["known"] != "probed" || fact["state"] == "off" {
            return Err(format!("{name}: {fact}").into());
        }
    }
    let timeout = Path::new("/proc/sys/fs/fuse/default_request_timeout");
    let off = fs::read_to_string(timeout).is_ok_and(|value| value.trim() == "0");
    let text = output(scratch.path(), &["doctor"]);
    expect_part(&stdout(&text), "covering_mount")?;
    if off != stdout(&text).contains("sysctl -w fs.fuse.default_request_timeout=") {
        return Err("the line that sets the timeout is there when it is 0, and only then".into());
    }
    if !features.iter().all(|fact| stdout(&text).contains(fact["feature"].as_str().unwrap_or("?")))
    {
        return Err("a feature is not in the text".into());
    }
    PASSED
}

fn probe_tells_states_apart() -> TestResult {
    let scratch = scratch();
    let path = scratch.path().to_str().expect("UTF-8").to_owned();
    expect_code(&output(scratch.path(), &["probe", &path]), 13)?;
    expect_code(&output(scratch.path(), &["probe", "/nonexistent"]), 1)?;
    expect_code(&output(scratch.path(), &["probe", "/proc"]), 0)?;
    expect_code(&output(scratch.path(), &["probe", "/proc", "--sentinel", "nothing-here"]), 12)?;
    expect_code(&output(scratch.path(), &["probe", "/proc", "--timeout", "0s"]), 2)?;
    // As the liveness probe of the verdict calls the agent.
    let agent = |timeout: &str| {
        propagation_agent_embed::command()?.args(["probe", "/proc", "--timeout", timeout]).output()
    };
    expect_code(&agent("4s")?, 0)?;
    expect_code(&agent("500ms")?, 0)?;
    expect_code(&agent("4h")?, 2)?;
    PASSED
}

fn no_color_without_a_terminal() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run"]);
    if result.stdout.contains(&0x1b) || result.stderr.contains(&0x1b) {
        return Err("escape sequences without a terminal".into());
    }
    PASSED
}

fn the_five_phases_run_with_any_daemon() -> TestResult {
    if !Path::new("/usr/bin/bindfs").exists() {
        return skip("bindfs", "bindfs is not installed");
    }
    let scratch = scratch();
    let command = "bindfs -f {source} {mountpoint}";
    let result = output(scratch.path(), &["run", "--producer-command", command]);
    expect_code(&result, 0)?;
    expect_part(&stdout(&result), "Verdict: full_success")?;
    PASSED
}

fn a_comparison_takes_one_node() -> TestResult {
    let scratch = scratch();
    for (words, part) in [
        (&["--backend", "k8s", "--all-nodes"][..], "transports are compared on one node"),
        (&["--backend", "k8s", "--node", "a,b"], "name one node with --node"),
        (&["--node", "a"], "add --backend k8s"),
    ] {
        let result = output(scratch.path(), &[&["compare"], words].concat());
        expect_code(&result, 2)?;
        expect_part(&stderr(&result), part)?;
    }
    PASSED
}
