//! The report as JUnit XML: a test suite for each phase, a test case for each check.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::words::short;
use propagation_model::report::{Check, PhaseReport, Report, Status};

/// The whole report. What is not allowed in XML 1.0 is written as escapes in words, so that every
/// reader accepts it.
pub fn render(report: &Report) -> String {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    // Writing to a Vec does not fail.
    let _ = write_report(&mut writer, report);
    let mut xml = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    xml.push('\n');
    xml
}

type Out = Writer<Vec<u8>>;

/// How many of a suite's cases came out so.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
}

impl Counts {
    fn of(phases: &[PhaseReport]) -> Self {
        let cases = phases.iter().flat_map(cases);
        cases.fold(Self::default(), |mut counts, case| {
            counts.tests += 1;
            match case.status {
                Status::Passed => {}
                Status::Failed => counts.failures += 1,
                Status::Skipped => counts.skipped += 1,
                Status::Errored => counts.errors += 1,
            }
            counts
        })
    }

    fn words(self) -> [(&'static str, String); 4] {
        [
            ("tests", self.tests.to_string()),
            ("failures", self.failures.to_string()),
            ("errors", self.errors.to_string()),
            ("skipped", self.skipped.to_string()),
        ]
    }
}

/// One test case: a check, or the phase itself where it did not come to its checks.
#[derive(Debug, Clone)]
struct Case<'a> {
    name: String,
    status: Status,
    check: Option<&'a Check>,
    reason: &'a str,
}

fn cases(phase: &PhaseReport) -> impl Iterator<Item = Case<'_>> {
    let checks = phase.checks.iter().map(|check| Case {
        name: check.id.to_string(),
        status: check.status,
        check: Some(check),
        reason: &check.observed,
    });
    let whole = matches!(phase.status, Status::Errored | Status::Skipped)
        && (phase.status == Status::Errored || phase.checks.is_empty());
    checks.chain(whole.then(|| Case {
        name: "(phase)".into(),
        status: phase.status,
        check: None,
        reason: phase.reason.as_deref().unwrap_or("no reason given"),
    }))
}

fn write_report(writer: &mut Out, report: &Report) -> io::Result<()> {
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let [tests, failures, errors, skipped] = Counts::of(&report.phases).words();
    let name = format!("propagation {}", short(&report.node));
    let suites = writer.create_element("testsuites").with_attributes([
        ("name", name.as_str()),
        (tests.0, &tests.1),
        (failures.0, &failures.1),
        (errors.0, &errors.1),
        (skipped.0, &skipped.1),
        ("time", &seconds(report.duration_ms)),
    ]);
    suites.write_inner_content(|writer| {
        for phase in &report.phases {
            write_phase(writer, report, phase)?;
        }
        Ok(())
    })?;
    Ok(())
}

fn write_phase(writer: &mut Out, report: &Report, phase: &PhaseReport) -> io::Result<()> {
    let [tests, failures, errors, skipped] = Counts::of(std::slice::from_ref(phase)).words();
    let suite = writer.create_element("testsuite").with_attributes([
        ("name", &*short(&phase.id)),
        (tests.0, &tests.1),
        (failures.0, &failures.1),
        (errors.0, &errors.1),
        (skipped.0, &skipped.1),
        ("time", &seconds(phase.duration_ms)),
        ("timestamp", &*short(&report.started_at)),
        ("hostname", &*short(&report.node)),
    ]);
    suite.write_inner_content(|writer| {
        writer.create_element("properties").write_inner_content(|writer| {
            for (name, value) in [
                ("run_id", short(&report.run_id)),
                ("backend", short(&report.backend)),
                ("verdict", report.verdict.outcome().as_str().into()),
                ("tool_version", short(&report.tool_version)),
            ] {
                let property = writer.create_element("property");
                property.with_attributes([("name", name), ("value", &*value)]).write_empty()?;
            }
            Ok(())
        })?;
        for case in cases(phase) {
            write_case(writer, phase, case)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Checks are not timed one by one; their phase is.
fn write_case(writer: &mut Out, phase: &PhaseReport, case: Case<'_>) -> io::Result<()> {
    let class = format!("propagation.{}", short(&phase.id));
    let element = writer.create_element("testcase").with_attributes([
        ("name", &*short(&case.name)),
        ("classname", &class),
        ("time", "0"),
    ]);
    let message = short(case.reason).into_owned();
    match case.status {
        Status::Passed => element.write_empty()?,
        Status::Skipped => element.write_inner_content(|writer| {
            let skipped = writer.create_element("skipped");
            skipped.with_attribute(("message", message.as_str())).write_empty()?;
            Ok(())
        })?,
        Status::Failed | Status::Errored => element.write_inner_content(|writer| {
            let (name, kind) = match case.status {
                Status::Errored => ("error", "tool"),
                _ => ("failure", "not as expected"),
            };
            let attributes = [("message", message.as_str()), ("type", kind)];
            let text = case.check.map_or_else(|| message.clone(), details);
            writer
                .create_element(name)
                .with_attributes(attributes)
                .write_text_content(BytesText::new(&text))?;
            Ok(())
        })?,
    };
    Ok(())
}

/// What is known of a failed check, a line for each.
fn details(check: &Check) -> String {
    let mut lines = vec![
        format!("expected: {}", short(&check.expected)),
        format!("observed: {}", short(&check.observed)),
    ];
    lines.extend(check.evidence.iter().map(|line| format!("evidence: {}", short(line))));
    lines.join("\n")
}

fn seconds(ms: f64) -> String {
    format!("{:.6}", ms / 1e3)
}
