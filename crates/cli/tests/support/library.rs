//! How the files of the scenario library came out, from the JSON of a run of all.

use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use propagation_core::report::Status;
use propagation_core::{Report, RunOutcome, ScenarioOutcome, VerdictOutcome};
use serde_json::Value;

use super::scratch;

/// How one scenario came out.
#[derive(Debug, Clone)]
pub enum Came {
    /// As the file says.
    AsExpected,
    /// Not carried out, and why.
    Skipped(String),
    /// What was seen instead.
    Otherwise(String),
}

/// The name of a file, and how it came out.
///
/// # Errors
/// When the document is no report of this version.
pub fn came(document: &Value) -> Result<(String, Came), String> {
    let text = |key: &str| document.get(key).and_then(Value::as_str).map(str::to_owned);
    if let Some(reason) = text("skipped") {
        return Ok((text("name").unwrap_or_default(), Came::Skipped(reason)));
    }
    if let Some(error) = text("error") {
        return Ok((text("name").unwrap_or_default(), Came::Otherwise(error)));
    }
    let report = document.get("report").unwrap_or(document).to_string();
    let report = Report::from_json(report.as_bytes()).map_err(|error| error.to_string())?;
    let name = report.plan.name.clone().unwrap_or_default();
    let unmet = report.phases.iter().flat_map(|phase| &phase.checks);
    let unmet = unmet.filter(|check| check.status == Status::Failed);
    let unmet: Vec<_> = unmet.map(|check| format!("{}: {}", check.id, check.observed)).collect();
    let came = match report.verdict.outcome() {
        RunOutcome::Scenario(ScenarioOutcome::AsExpected) => Came::AsExpected,
        RunOutcome::Answer(VerdictOutcome::FullSuccess) => Came::AsExpected,
        RunOutcome::Scenario(ScenarioOutcome::Skipped) => {
            Came::Skipped("nothing was looked at".into())
        }
        _ => Came::Otherwise(unmet.join("; ")),
    };
    Ok((name, came))
}

/// How the files came out, from the JSON of a run of a directory or of one file.
///
/// # Errors
/// Text that is not JSON, or a document that is not a report of this version.
pub fn all_came(json: &[u8]) -> Result<Vec<(String, Came)>, String> {
    let all = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    match all {
        Value::Array(all) => all.iter().map(came).collect(),
        one => Ok(vec![came(&one)?]),
    }
}

/// Takes over how scenarios that came out otherwise did when they were tried again; how many were.
pub fn take_over(first: &mut [(String, Came)], second: &[(String, Came)]) -> usize {
    let mut tried_again = 0;
    for (name, came) in first {
        let again = second.iter().find(|(other, _)| other == name);
        if let (Came::Otherwise(_), Some((_, again))) = (&came, again) {
            came.clone_from(again);
            tried_again += 1;
        }
    }
    tried_again
}

/// A directory with the library's files of these names.
///
/// # Errors
/// When a file cannot be read or copied.
pub fn only(names: &[String]) -> Result<tempfile::TempDir, Failed> {
    let files = scratch();
    for file in propagation_core::scenario::files(&root().join("scenarios"))? {
        let plan = propagation_core::scenario::read(&file)?;
        if plan.name.is_some_and(|name| names.contains(&name)) {
            let name = file.file_name().ok_or("a file without a name")?;
            std::fs::copy(&file, files.path().join(name))?;
        }
    }
    Ok(files)
}

/// When and with what a document was written: one line.
pub fn found() -> String {
    let today = jiff::Timestamp::now().to_string();
    let today = today.split('T').next().unwrap_or_default();
    format!("Found on {today} with propagation {}.", env!("CARGO_PKG_VERSION"))
}

/// The workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_owned()
}
