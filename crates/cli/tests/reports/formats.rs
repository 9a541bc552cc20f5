//! The formats of a report, and a report whose texts are hostile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use propagation_core::Report;
use propagation_report::Decision;
use propagation_report::text::{Detail, Style, render};
use serde_json::Value;

use crate::support::{PASSED, TestResult, expect_code, expect_part, output, scratch, skip, stdout};

/// A run with its report directory.
pub(crate) fn run(
    scratch: &Path,
    options: &[&str],
    code: i32,
) -> Result<PathBuf, libtest_mimic::Failed> {
    let directory = scratch.join("report");
    let mut arguments = vec!["run", "--report", directory.to_str().expect("UTF-8")];
    arguments.extend(options);
    expect_code(&output(scratch, &arguments), code)?;
    Ok(directory)
}

pub(crate) fn every_format_is_written_and_printed() -> TestResult {
    let scratch = scratch();
    let directory = run(scratch.path(), &["--volume", "mountpoint"], 3)?;
    let json = directory.join("report.json");
    let json = json.to_str().expect("UTF-8");
    for (format, file, part) in [
        ("text", "report.txt", "Verdict: partial_success"),
        ("json", "report.json", "\"schema_version\""),
        ("markdown", "report.md", "# FUSE propagation test: `partial_success`, scenario B"),
        ("html", "report.html", "<h1>"),
        ("junit", "junit.xml", "<testsuites"),
    ] {
        let saved = fs::read_to_string(directory.join(file))?;
        expect_part(&saved, part)?;
        let printed = output(scratch.path(), &["report", json, "--format", format, "--evidence"]);
        expect_code(&printed, 3)?;
        if stdout(&printed).trim_end() != saved.trim_end() {
            return Err(format!("{format} is another when it is rendered again").into());
        }
    }
    expect_part(&fs::read_to_string(directory.join("run.log"))?, "verdict partial_success")?;
    PASSED
}

/// Lines and columns of the screen that everybody has; one line is the prompt's.
const SCREEN: (usize, usize) = (24, 80);

/// One cause, one change and what the experiment measured stand on one screen.
pub(crate) fn trouble_ends_on_one_screen() -> TestResult {
    for options in [
        &["--volume", "mountpoint"][..],
        &["--propagation", "None"],
        &["--fault", "stop"],
        &["--no-allow-other"],
    ] {
        let scratch = scratch();
        let arguments =
            [&["run", "--format", "json", "--experiments", "all"][..], options].concat();
        let printed = output(scratch.path(), &arguments);
        let report = Report::from_json(&printed.stdout)?;
        let style = Style { width: Some(SCREEN.1), ..Style::plain(Detail::Normal) };
        let text = render(&report, style);
        let (_, end) = text.rsplit_once("\nVerdict: ").ok_or("no verdict")?;
        for part in
            ["\n  Cause: ", "proven", "\n  Fix: ", ": tried, all", " single changes were tried"]
        {
            expect_part(&end.replace("\n    ", " "), part)?;
        }
        if end.lines().count() >= SCREEN.0 {
            return Err(format!("{} lines for {options:?}:\n{end}", end.lines().count()).into());
        }
    }
    PASSED
}

/// A mount that is there, dead, fresh, and gone, as the printed liveness probe finds it in a consumer.
pub(crate) fn the_printed_probe_runs_in_an_image_without_this_program() -> TestResult {
    let scratch = scratch();
    let arguments = ["run", "--volume", "mountpoint", "--format", "json", "--experiments", "off"];
    let report = Report::from_json(&output(scratch.path(), &arguments).stdout)?;
    let probe = Decision::of(&report).and_then(|decision| decision.liveness_probe);
    let probe = probe.ok_or("no probe is printed")?;
    let (_, command) = probe.split_once("command: [sh, -c, '").ok_or("no command for a shell")?;
    let (command, _) = command.split_once("']\n").ok_or("the command has no end")?;
    let command = serde_json::to_string(&command.replace("''", "'"))?;
    let look = |outcome: &str| {
        format!(
            "  - {{run: [sh, -c, {command}], in: app, expect: {{run: {{outcome: {outcome}}}}}}}\n"
        )
    };
    let (ok, error) = (look("ok"), look("error"));
    let scenario = format!(
        "workloads:\n  - {{name: d, role: producer}}\n  - {{name: app, role: consumer}}\nsteps:\n  - start: all\n\
         {ok}  - fault: kill\n{error}  - repair: lazy_unmount_mount\n{ok}  - fault: exit\n{error}"
    );
    let file = scratch.path().join("probe.yaml");
    fs::write(&file, scenario)?;
    expect_code(&output(scratch.path(), &["run", "--scenario", &file.to_string_lossy()]), 0)?;
    PASSED
}

pub(crate) fn junit_is_accepted_by_its_schema() -> TestResult {
    if !crate::support::has_xmllint() {
        return skip("xmllint", "there is no /usr/bin/xmllint");
    }
    let scratch = scratch();
    let directory = run(scratch.path(), &["--covering", "private"], 5)?;
    let hostile = scratch.path().join("hostile.json");
    fs::write(&hostile, hostile_json(&directory.join("report.json"))?)?;
    let printed =
        output(scratch.path(), &["report", hostile.to_str().expect("UTF-8"), "--format", "junit"]);
    let second = scratch.path().join("hostile.xml");
    fs::write(&second, &printed.stdout)?;
    for file in [directory.join("junit.xml"), second] {
        crate::support::expect_junit(&file)?;
    }
    let json: Value = serde_json::from_slice(&fs::read(directory.join("report.json"))?)?;
    let phases = json["phases"].as_array().ok_or("no phases")?;
    let checks: usize = phases.iter().map(|p| p["checks"].as_array().map_or(0, Vec::len)).sum();
    let skipped = phases.iter().filter(|phase| phase["status"] == "skipped").count();
    let cases = fs::read_to_string(directory.join("junit.xml"))?.matches("<testcase ").count();
    if cases != checks + skipped {
        return Err(format!("{cases} cases of {checks} checks and {skipped} skipped phases").into());
    }
    PASSED
}

pub(crate) fn graphviz_draws_the_graph() -> TestResult {
    if !Path::new("/usr/bin/dot").exists() {
        return skip("graphviz", "there is no /usr/bin/dot");
    }
    let scratch = scratch();
    let directory = run(scratch.path(), &[], 0)?;
    let hostile = scratch.path().join("hostile.json");
    fs::write(&hostile, hostile_json(&directory.join("report.json"))?)?;
    for json in [directory.join("report.json"), hostile] {
        let printed =
            output(scratch.path(), &["report", json.to_str().expect("UTF-8"), "--format", "dot"]);
        let file = scratch.path().join("graph.dot");
        fs::write(&file, &printed.stdout)?;
        let drawn = Command::new("dot").arg("-Tsvg").arg(&file).output()?;
        expect_code(&drawn, 0)?;
        expect_part(&stdout(&drawn), "group")?;
    }
    PASSED
}

/// A saved report in which every text that may be anything is hostile.
pub(crate) fn hostile_json(file: &Path) -> Result<Vec<u8>, libtest_mimic::Failed> {
    const HOSTILE: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`]]>&lt;--><!-- \
        |\u{202e}\u{1b}[31m\u{0}\r\n\u{fffe}</pre></style></svg><a href=\"javascript:alert(3)\">";
    let mut json: Value = serde_json::from_slice(&fs::read(file)?)?;
    let mut pointers = Vec::new();
    for field in [
        "run_id",
        "node",
        "started_at",
        "verdict",
        "phases",
        "logs",
        "cleanup",
        "diagnosis",
        "environment",
    ] {
        if let Some(value) = json.get(field) {
            strings(value, format!("/{field}"), &mut pointers);
        }
    }
    for pointer in pointers {
        let Some(place) = json.pointer_mut(&pointer) else { continue };
        let before = std::mem::replace(place, HOSTILE.into());
        if serde_json::from_value::<propagation_core::Report>(json.clone()).is_err() {
            // A word of a fixed set, or in a notation of its own.
            *json.pointer_mut(&pointer).ok_or("it was there")? = before;
        }
    }
    // Actors have names too, which have to agree.
    let text = json.to_string().replace("consumer-late", "<script>alert(1)</script>");
    Ok(text.into_bytes())
}

fn strings(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(n, item)| strings(item, format!("{at}/{n}"), found));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| strings(field, format!("{at}/{name}"), found));
        }
        _ => {}
    }
}
