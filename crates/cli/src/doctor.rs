//! `propagation doctor`: the phase host_setup alone, on this very host.

use std::io;

use propagation_core::Error;
use propagation_core::facts::HostFacts;
use propagation_core::phase::check_host;
use propagation_core::plan::{Bridge, Plan};
use propagation_core::report::text::{one_line, sign};
use propagation_core::report::{Check, Status};

use crate::args::{DoctorOptions, Format};
use crate::exit::Exit;
use crate::output;

pub(crate) fn main(options: &DoctorOptions) -> Result<Exit, Error> {
    let mut plan = Plan {
        bridge: Bridge { path: options.bridge.clone(), ..Bridge::default() },
        ..Plan::default()
    };
    if let Some(producer) = plan.workloads.first_mut() {
        producer.uid = options.producer_uid;
    }
    plan.validate()?;
    let facts = crate::runtime()?.block_on(facts(options))?;
    let checks = check_host(&facts, &plan);
    match options.format {
        Format::Text => output::text(&render(&facts, &checks))?,
        Format::Json => output::json(&serde_json::json!({ "facts": facts, "checks": checks }))?,
    }
    let failed = checks.iter().any(|check| check.status == Status::Failed);
    Ok(if failed { Exit::NotInOrder } else { Exit::Success })
}

fn render(facts: &HostFacts, checks: &[Check]) -> String {
    let colour = output::colour(&io::stdout());
    let mut lines = vec![colour.bold(&format!("Host {}", one_line(&facts.hostname)))];
    for check in checks {
        let mark = colour.paint(check.status, sign(check.status));
        lines.push(format!("  {mark} {}: {}", check.id, one_line(&check.observed)));
        if check.status == Status::Failed {
            lines.push(format!("      expected: {}", one_line(&check.expected)));
        }
        lines.extend(check.evidence.iter().map(|line| format!("      {}", one_line(line))));
        lines.extend(check.cause.iter().map(|cause| format!("      cause: {}", one_line(cause))));
        lines.extend(check.fix.iter().map(|fix| format!("      fix: {}", one_line(fix))));
    }
    lines.join("\n")
}

#[cfg(target_os = "linux")]
async fn facts(options: &DoctorOptions) -> Result<HostFacts, Error> {
    propagation_backend_local::host_facts(&options.bridge, options.timeout).await
}

#[cfg(not(target_os = "linux"))]
async fn facts(_options: &DoctorOptions) -> Result<HostFacts, Error> {
    Err(linux_only())
}

/// For systems without mount namespaces.
#[cfg(not(target_os = "linux"))]
pub(crate) fn linux_only() -> Error {
    Error::new(propagation_core::ErrorKind::Unsupported, "use the local backend", "it needs Linux")
        .with_fix("run it on a Linux machine")
}
