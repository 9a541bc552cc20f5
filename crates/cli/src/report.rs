//! `propagation report`: renders a saved report again.

use std::fs;

use propagation_core::{Error, ErrorKind, Report};

use crate::args::ReportOptions;
use crate::exit::Exit;
use crate::run;

pub(crate) fn main(options: &ReportOptions) -> Result<Exit, Error> {
    let path = &options.file;
    let json = fs::read(path).map_err(|error| {
        Error::new(ErrorKind::InvalidInput, format!("read {}", path.display()), error.to_string())
            .with_fix("name the report.json that `propagation run --report DIR` wrote")
    })?;
    let report = Report::from_json(&json)?;
    run::print(&report, options.format, options.evidence)?;
    Ok(Exit::Verdict(report.verdict.outcome))
}
