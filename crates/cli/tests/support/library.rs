//! How the files of the scenario library came out, from the JSON of a run of all.

use propagation_core::report::Status;
use propagation_core::{Report, RunOutcome, ScenarioOutcome, VerdictOutcome};
use serde_json::Value;

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
