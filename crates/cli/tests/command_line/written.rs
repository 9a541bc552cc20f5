//! What a run writes: reports, logs, standard output.

use std::fs;

use regex::Regex;

use crate::support::{
    PASSED, TestResult, expect_code, expect_part, output, scratch, stderr, stdout,
};

pub(crate) fn json_is_a_report_that_renders_again() -> TestResult {
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

pub(crate) fn a_report_directory_gets_both_files() -> TestResult {
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

pub(crate) fn reports_and_logs_are_for_their_user_alone() -> TestResult {
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

pub(crate) fn variables_of_daemons_are_in_no_report_unless_asked_for() -> TestResult {
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

pub(crate) fn a_relative_state_directory_is_ignored() -> TestResult {
    let scratch = scratch();
    let result = crate::support::propagation(scratch.path(), &["run"])
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

pub(crate) fn what_a_step_is_called_cannot_reach_the_terminal() -> TestResult {
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

pub(crate) fn a_full_log_disk_is_a_warning() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--log-dir", "/dev/null/x"]);
    expect_code(&result, 0)?;
    expect_part(&stderr(&result), "warning: no log file")?;
    PASSED
}

pub(crate) fn a_closed_pipe_is_not_an_error() -> TestResult {
    let scratch = scratch();
    let mut child = crate::support::propagation(scratch.path(), &["schema"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    drop(child.stdout.take());
    let result = child.wait_with_output()?;
    expect_code(&result, 0)?;
    PASSED
}

pub(crate) fn no_color_without_a_terminal() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run"]);
    if result.stdout.contains(&0x1b) || result.stderr.contains(&0x1b) {
        return Err("escape sequences without a terminal".into());
    }
    PASSED
}
