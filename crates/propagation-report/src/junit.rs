//! The report as JUnit XML: a test suite for each phase, a test case for each check.

use std::io;

use quick_xml::events::{BytesDecl, BytesText, Event};
use quick_xml::{ElementWriter, Writer};

use super::words::short;
use propagation_model::report::{Check, PhaseReport, Report, Status};

/// The name of the suite of the clean-up.
const CLEAN_UP: &str = "clean_up";

/// The whole report. Characters that XML 1.0 does not allow are written as escape sequences, so that every
/// reader accepts it.
pub fn render(report: &Report) -> String {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    // Writing to a Vec does not fail.
    let _ = write_report(&mut writer, report);
    let mut xml = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    xml.push('\n');
    xml
}

/// The results of several runs as one document.
#[derive(Debug, Default)]
pub struct Several {
    suites: Vec<u8>,
    counts: Counts,
    duration_ms: f64,
}

impl Several {
    /// Adds the suites of a report, each with the name of what was run before its own.
    pub fn add(&mut self, name: &str, report: &Report) {
        self.counts.add(Counts::of_report(report));
        self.duration_ms += report.duration_ms;
        self.suites.push(b'\n');
        let mut writer = Writer::new_with_indent(&mut self.suites, b' ', 2);
        for phase in &report.phases {
            // Writing to a Vec does not fail.
            let _ = write_phase(&mut writer, report, phase, Some(name));
        }
        let _ = write_cleanup(&mut writer, report, Some(name));
    }

    /// Adds a suite with one case for a run that has no report.
    pub fn add_without_report(&mut self, name: &str, status: Status, reason: &str) {
        let case = Case { name: "(run)".into(), status, check: None, reason };
        let counts = Counts::default().with(&case);
        self.counts.add(counts);
        self.suites.push(b'\n');
        let mut writer = Writer::new_with_indent(&mut self.suites, b' ', 2);
        let name = short(name);
        let suite = suite(&mut writer, &name, counts, 0.0);
        // Writing to a Vec does not fail.
        let _ = suite.write_inner_content(|writer| write_case(writer, &name, case));
    }

    /// The document.
    pub fn finish(self) -> String {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        let inner = String::from_utf8_lossy(&self.suites).into_owned();
        let _ = write_suites(&mut writer, "propagation", self.counts, self.duration_ms, |writer| {
            writer.get_mut().extend(b"\n");
            writer.get_mut().extend(inner.trim().as_bytes());
            Ok(())
        });
        let mut xml = String::from_utf8_lossy(&writer.into_inner()).into_owned();
        xml.push('\n');
        xml
    }
}

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
        phases.iter().flat_map(cases).fold(Self::default(), |counts, case| counts.with(&case))
    }

    fn of_report(report: &Report) -> Self {
        left(report).iter().fold(Self::of(&report.phases), |counts, case| counts.with(case))
    }

    fn with(mut self, case: &Case<'_>) -> Self {
        self.tests += 1;
        match case.status {
            Status::Passed => {}
            Status::Failed => self.failures += 1,
            Status::Skipped => self.skipped += 1,
            Status::Errored => self.errors += 1,
        }
        self
    }

    fn add(&mut self, other: Self) {
        self.tests += other.tests;
        self.failures += other.failures;
        self.errors += other.errors;
        self.skipped += other.skipped;
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

/// What a run has left, a case for each.
fn left(report: &Report) -> Vec<Case<'_>> {
    let case =
        |reason| Case { name: "(left)".into(), status: Status::Errored, check: None, reason };
    report.cleanup.could_not.iter().map(|reason| case(reason)).collect()
}

fn write_report(writer: &mut Writer<Vec<u8>>, report: &Report) -> io::Result<()> {
    let name = match &report.plan.name {
        Some(scenario) => format!("propagation {}", short(scenario)),
        None => format!("propagation {}", short(&report.node)),
    };
    let counts = Counts::of_report(report);
    write_suites(writer, &name, counts, report.duration_ms, |writer| {
        for phase in &report.phases {
            write_phase(writer, report, phase, None)?;
        }
        write_cleanup(writer, report, None)
    })
}

fn write_suites(
    writer: &mut Writer<Vec<u8>>,
    name: &str,
    counts: Counts,
    duration_ms: f64,
    inner: impl FnOnce(&mut Writer<Vec<u8>>) -> io::Result<()>,
) -> io::Result<()> {
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let [tests, failures, errors, skipped] = counts.words();
    let suites = writer.create_element("testsuites").with_attributes([
        ("name", name),
        (tests.0, &tests.1),
        (failures.0, &failures.1),
        (errors.0, &errors.1),
        (skipped.0, &skipped.1),
        ("time", &seconds(duration_ms)),
    ]);
    suites.write_inner_content(inner)?;
    Ok(())
}

/// The element of a suite, with its name, counts and time.
fn suite<'a, W: io::Write>(
    writer: &'a mut Writer<W>,
    name: &'a str,
    counts: Counts,
    duration_ms: f64,
) -> ElementWriter<'a, W> {
    let [tests, failures, errors, skipped] = counts.words();
    writer.create_element("testsuite").with_attributes([
        ("name", name),
        (tests.0, &tests.1),
        (failures.0, &failures.1),
        (errors.0, &errors.1),
        (skipped.0, &skipped.1),
        ("time", &seconds(duration_ms)),
    ])
}

/// A suite for the clean-up that something has resisted.
fn write_cleanup<W: io::Write>(
    writer: &mut Writer<W>,
    report: &Report,
    of: Option<&str>,
) -> io::Result<()> {
    let cases = left(report);
    if cases.is_empty() {
        return Ok(());
    }
    let name = of.map_or_else(|| CLEAN_UP.into(), |of| format!("{}/{CLEAN_UP}", short(of)));
    let counts = cases.iter().fold(Counts::default(), |counts, case| counts.with(case));
    let suite = suite(writer, &name, counts, report.cleanup.duration_ms);
    suite.write_inner_content(|writer| {
        cases.into_iter().try_for_each(|case| write_case(writer, &name, case))
    })?;
    Ok(())
}

/// A phase as a suite; `of` is the name of what was run, where there are several.
fn write_phase<W: io::Write>(
    writer: &mut Writer<W>,
    report: &Report,
    phase: &PhaseReport,
    of: Option<&str>,
) -> io::Result<()> {
    let name = match of {
        Some(of) => format!("{}/{}", short(of), short(&phase.id)),
        None => short(&phase.id).into_owned(),
    };
    let counts = Counts::of(std::slice::from_ref(phase));
    let suite = suite(writer, &name, counts, phase.duration_ms).with_attributes([
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
            write_case(writer, &name, case)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Checks are not timed one by one; their phase is.
fn write_case<W: io::Write>(writer: &mut Writer<W>, suite: &str, case: Case<'_>) -> io::Result<()> {
    let class = format!("propagation.{}", suite.replace('/', "."));
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

/// The facts of a failed check, a line for each.
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
