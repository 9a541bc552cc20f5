//! The plans of `propagation run`: that of its options, or those of scenario files.

use std::collections::BTreeSet;
use std::path::PathBuf;

use propagation_core::{Error, ErrorKind, Plan, scenario};

use crate::args::run::RunOptions;

/// Reads all plans before any is run.
///
/// # Errors
/// A file that is not a scenario, or two scenarios with the same name.
pub(crate) fn of(options: &RunOptions) -> Result<Vec<Plan>, Error> {
    if options.scenario.is_empty() {
        return Ok(vec![options.plan()]);
    }
    let mut plans = read(&options.scenario)?;
    for plan in &mut plans {
        plan.deadlines = plan.deadlines.times(options.patience);
        options.limit(plan);
        if let Some(runtime) = &options.runtime {
            plan.node.runtime.engine.clone_from(runtime);
        }
    }
    Ok(plans)
}

fn read(paths: &[PathBuf]) -> Result<Vec<Plan>, Error> {
    let mut plans = Vec::new();
    for path in paths {
        if path.is_dir() {
            for file in scenario::files(path)? {
                plans.push(scenario::read(&file)?);
            }
        } else {
            plans.push(scenario::read(path)?);
        }
    }
    let mut names = BTreeSet::new();
    for plan in &plans {
        let name = name_of(plan);
        if !names.insert(name) {
            let reason = "two scenarios have this name";
            let operation = format!("run the scenario {name:?}");
            return Err(Error::new(ErrorKind::InvalidInput, operation, reason)
                .with_fix("give every scenario its own `name`"));
        }
    }
    Ok(plans)
}

/// The name of a scenario in results.
pub(crate) fn name_of(plan: &Plan) -> &str {
    plan.name.as_deref().unwrap_or("scenario")
}
