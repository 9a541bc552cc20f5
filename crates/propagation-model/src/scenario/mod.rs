//! Scenario files: a [`Plan`] written as YAML (or JSON, which is YAML too), checked before anything
//! runs, with errors that say where.
//!
//! ```
//! use propagation_model::scenario;
//!
//! let plan = scenario::parse("example.yaml", "
//! name: clean-unmount
//! workloads:
//!   - {name: producer, role: producer}
//!   - {name: early, role: consumer, order: before_mount}
//! steps:
//!   - start: all
//!     expect: {early: ok}
//!   - fault: terminate
//!     expect: {early: absent, node: absent}
//!   - repair: remount
//!     expect: {early: ok}
//! ")?;
//! assert_eq!(plan.steps.len(), 3);
//!
//! let error = scenario::parse("example.yaml", "steps:\n  - start: al\n").unwrap_err();
//! assert_eq!(error.to_string(), "example.yaml:2:12: unknown actor \"al\"");
//! # Ok::<(), propagation_model::Error>(())
//! ```

mod hints;
mod yaml;

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind};
use crate::plan::{Plan, Problem};
use yaml::Document;

/// The largest scenario file that is read, in bytes: far above any that a person writes.
pub const MOST_BYTES: u64 = 1024 * 1024;

/// Reads a scenario from text. Errors call it `file`.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] with `file:line:column`, what is wrong and a hint: for what is not
/// YAML, unknown keys and values, and everything of [`Plan::problems`].
pub fn parse(file: &str, text: &str) -> Result<Plan, Error> {
    let document =
        yaml::read(text).map_err(|problem| located(file, problem.at, &problem.reason, ""))?;
    let plan: Plan = from_document(&document).map_err(|problem| {
        let Problem { at, reason, fix } = see_schema(problem);
        // A key that there is not is pointed at itself, everything else at its value.
        let position = match reason.starts_with("unknown field") {
            true => document.position_of_key(&at),
            false => document.position(&at),
        };
        located(file, position, &reason, &fix)
    })?;
    match plan.problems().into_iter().chain(plan.file_problems()).next() {
        None => Ok(plan),
        Some(Problem { at, reason, fix }) => {
            Err(located(file, document.position(&at), &reason, &fix))
        }
    }
}

/// Reads any other YAML text, with errors that say where.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] with `file:line:column`, what is wrong and a hint.
pub fn parse_as<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T, Error> {
    let document =
        yaml::read(text).map_err(|problem| located(file, problem.at, &problem.reason, ""))?;
    from_document(&document)
        .map_err(|Problem { at, reason, fix }| located(file, document.position(&at), &reason, &fix))
}

/// Reads a scenario from a JSON value, as bindings have it.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] with the path of the value that is wrong.
pub fn from_value(value: serde_json::Value) -> Result<Plan, Error> {
    let document = Document::from_value(value);
    let plan: Plan = from_document(&document).map_err(see_schema)?;
    match plan.problems().into_iter().chain(plan.file_problems()).next() {
        None => Ok(plan),
        Some(problem) => Err(problem.into()),
    }
}

/// Reads one part of a scenario from a JSON value, as bindings have it: a workload, a fault. Errors call it `what`.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] with what was meant, where that can be guessed.
pub fn part<T: serde::de::DeserializeOwned>(
    what: &str,
    value: serde_json::Value,
) -> Result<T, Error> {
    from_document(&Document::from_value(value)).map_err(|Problem { at, reason, fix }| {
        let operation = if at.is_empty() { what.to_owned() } else { format!("{what}: {at}") };
        let fix =
            if fix.is_empty() { "use one of the words that are expected".into() } else { fix };
        Error::new(ErrorKind::InvalidInput, operation, reason).with_fix(fix)
    })
}

fn from_document<T: serde::de::DeserializeOwned>(document: &Document) -> Result<T, Problem> {
    serde_path_to_error::deserialize(&document.value).map_err(|error| {
        let at = error.path().to_string();
        let said = error.into_inner().to_string();
        let fix = hints::hint(&at, &said).unwrap_or_default();
        let reason = hints::words(&said);
        Problem { at: if at == "." { String::new() } else { at }, reason, fix }
    })
}

/// Refers to the schema where a problem has no fix.
fn see_schema(problem: Problem) -> Problem {
    match problem.fix.is_empty() {
        true => Problem { fix: "see `propagation schema --scenario`".into(), ..problem },
        false => problem,
    }
}

fn located(file: &str, at: Option<(usize, usize)>, reason: &str, fix: &str) -> Error {
    let place = match at {
        Some((line, column)) => format!("{file}:{line}:{column}"),
        None => file.to_owned(),
    };
    let error = Error::new(ErrorKind::InvalidInput, place, reason);
    if fix.is_empty() { error } else { error.with_fix(fix) }
}

/// Reads a scenario file.
///
/// # Errors
/// As [`parse`], and when the file cannot be read or is larger than [`MOST_BYTES`].
pub fn read(path: &Path) -> Result<Plan, Error> {
    let shown = path.display().to_string();
    let refuse = |reason: String| {
        Error::new(ErrorKind::InvalidInput, format!("read {shown}"), reason)
            .with_fix("name a scenario file, or a directory of them")
    };
    let bytes = crate::input::read(path, MOST_BYTES).map_err(|error| refuse(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| refuse("it is not UTF-8 text".into()))?;
    let mut plan = parse(&shown, &text)?;
    if plan.name.is_none() {
        plan.name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    }
    Ok(plan)
}

/// The scenario files of a directory, sorted by name: every `.yaml`, `.yml` and `.json` in it.
///
/// # Errors
/// When the directory cannot be read, or holds no scenario file.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let operation = format!("list {}", directory.display());
    let refuse = |reason: String| {
        Error::new(ErrorKind::InvalidInput, operation.clone(), reason)
            .with_fix("name a scenario file, or a directory of them")
    };
    let entries = std::fs::read_dir(directory).map_err(|error| refuse(error.to_string()))?;
    let is_scenario = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("yaml" | "yml" | "json"))
    };
    let mut files: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(is_scenario).collect();
    files.sort();
    if files.is_empty() {
        return Err(refuse("no scenario file in this directory".into()));
    }
    Ok(files)
}

/// The JSON Schema of scenario files.
pub fn json_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Plan);
    schema.insert("title".into(), "propagation scenario".into());
    schema.to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let error = parse("s.yaml", text).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        format!("{error} [{}]", error.fix().unwrap_or_default())
    }

    const WHO: &str = "workloads:\n- {name: p, role: producer}\n- {name: c, role: consumer}\n";

    #[test]
    fn errors_say_where_and_what_was_meant() {
        for (text, expected) in [
            ("bridg: x\n", "s.yaml:1:1: unknown field `bridg`"),
            ("bridge: {path: relative}\n", "s.yaml:1:16: \"relative\" is not an absolute path"),
            ("steps:\n- fault: kil\n", "s.yaml:2:10: unknown variant `kil`"),
            ("steps:\n- fault: kill\n  repair: none\n", "s.yaml:2:3: a step does one thing"),
            ("steps:\n- {start: all, expect: {contro: ok}}\n", "unknown actor \"contro\""),
            ("steps:\n- {start: all, expect: {control: okay}}\n", "unknown outcome \"okay\""),
            ("a: [1, 2\n", "s.yaml:2:1:"),
            ("name: a\nname: b\n", "s.yaml:2:1: duplicate key \"name\""),
            ("- a\n", "s.yaml:1:1: "),
        ] {
            let words = error(text);
            assert!(words.contains(expected), "{text:?} gave {words}");
        }
        assert!(error("bridg: x\n").contains("did you mean bridge?"));
        assert!(error("steps:\n- fault: kil\n").contains("did you mean kill?"));
        assert!(
            error("workloads:\n- {name: c, role: consumer, propagation: rslave}\n")
                .contains("write HostToContainer")
        );
        assert!(
            error("steps:\n- {start: all, expect: {contro: ok}}\n")
                .contains("did you mean control?")
        );
    }

    #[test]
    fn bidirectional_without_privileged_is_refused_as_the_api_server_does() {
        let words = error(
            "workloads:\n- {name: p, role: producer, privileged: false}\n- {name: c, role: consumer}\n",
        );
        assert!(words.contains("available only to privileged containers"), "{words}");
        assert!(words.starts_with("s.yaml:2:"), "{words}");
    }

    #[test]
    fn what_cannot_be_bound_published_or_named_is_refused() {
        let with = |role: &str, more: &str| {
            format!(
                "workloads:\n- {{name: p, role: producer}}\n- {{name: c, role: {role}, {more}}}\n"
            )
        };
        let consumer = |more: &str| with("consumer", more);
        let step = |more: &str, step: &str| format!("{}steps:\n- {step}\n", consumer(more));
        for (text, expected) in [
            ("cause: daemon_dead\nsource: x\n".into(), "is not the id of a cause"),
            ("cause: daemon-dead\n".into(), "no source names"),
            ("cause: []\nsource: x\n".into(), "no cause in the list"),
            (consumer("bind: {type: Dir}"), "unknown variant `Dir`"),
            (consumer("bind: {recursive_read_only: true}"), "when `read_only` is true"),
            (
                consumer("bind: {read_only: true, recursive_read_only: true}"),
                "when the propagation is None",
            ),
            (consumer("host: true, bind: {read_only: true}"), "has no volume that is bound"),
            (step("volume: bridge", "publish: c"), "is not a path of its own"),
            (step("volume: bridge", "unpublish: all"), "no workload has a path"),
            (step("volume: bridge", "{observe: true, expect: {c: {errno: ENOTCON}}}"), "ENOTCON"),
            (
                step("volume: bridge", "{observe: true, expect: {c: {mounts_at: {x: 1}}}}"),
                "absolute",
            ),
            (with("producer", "fuse: {command: [x], options: [suid]}"), "built-in filesystem"),
            (with("producer", "fuse: {options: [\"suid,dev\"]}"), "without a comma"),
        ] {
            let words = error(&text);
            assert!(words.contains(expected), "{text:?} gave {words}");
        }
    }

    #[test]
    fn what_contradicts_itself_or_is_decided_before_is_refused() {
        let more = |more: &str| format!("{WHO}{more}");
        let consumer = |more: &str| {
            format!(
                "workloads:\n- {{name: p, role: producer}}\n- {{name: c, role: consumer, {more}}}\n"
            )
        };
        let fuse = |more: &str| {
            format!(
                "workloads:\n- {{name: p, role: producer, fuse: {{{more}}}}}\n- {{name: c, role: consumer}}\n"
            )
        };
        let expect = |more: &str| more_steps(&format!("{{start: all, expect: {{{more}}}}}"));
        for (text, expected) in [
            ("workloads: []\nsteps: [{observe: true}]\n".into(), "no workloads"),
            (more("fault: stop\nsteps: [{start: all}]\n"), "only the five phases do this"),
            (consumer("host: true, user_namespace: true"), "in no container"),
            (consumer("capabilities: [SYS_ADMN]"), "did you mean SYS_ADMIN?"),
            (consumer("uid: 4294967295"), "s.yaml:3:34: 4294967295 is -1 to the kernel"),
            (
                consumer("volumes: [{source: /a, destination: /mnt}]"),
                "another volume is at \"/mnt\"",
            ),
            (
                consumer("volumes: [{source: /a, destination: /x}, {source: /b, destination: /x}]"),
                "another volume is at \"/x\"",
            ),
            (fuse("command: []"), "no program given"),
            (
                fuse("allow_other: false, options: [allow_other]"),
                "contradicts `allow_other: false`",
            ),
            (fuse("command: [x], environment: {\"A=B\": x}"), "\"A=B\" cannot be the name"),
            (fuse("command: [x, \"{bridge}\"]"), "{bridge} has no meaning here"),
            (fuse("command: [x], prepare: [[y, \"{sorce}\"]]"), "did you mean {source}?"),
            (more_steps("{run: [echo, \"{work}\"]}"), "{work} has no meaning here"),
            (more_steps("{fault: {slow: {}}}"), "no operation given"),
            (more_steps("{run: [x], expect: {run: {exit: 256}}}"), "no program exits with 256"),
            (expect("c: {outcome: ok, text: x}"), "text is of a refusal, and ok is none"),
            (expect("node: {errno: EIO}"), "node is never refused"),
            (expect("c: [ok, not_ok]"), "always met"),
            (expect("node: ok, node.read: ENOTCONN"), "the same look as \"node\""),
            (expect("node: ok, node@0: EACCES"), "the same look as \"node\""),
            (expect("node@4294967295: EACCES"), "not a UID"),
            (more("source: x\ncause: daemon-ded\n"), "did you mean daemon-dead?"),
        ] {
            let words = error(&text);
            assert!(words.contains(expected), "{text:?} gave {words}");
        }
        for fine in [
            expect("c: {outcome: create_error, text: x}, p: {outcome: not_ok, text: x}"),
            expect("node: ok, node.list: ok, node@1000: EACCES"),
            more("source: x\ncause: own-cause-of-a-phase\n"),
        ] {
            assert!(parse("s.yaml", &fine).is_ok(), "{fine}");
        }
    }

    fn more_steps(step: &str) -> String {
        format!("{WHO}steps:\n- {step}\n")
    }

    #[test]
    fn what_is_left_out_follows_from_the_role() {
        let plan = parse("s.yaml", WHO).expect("valid");
        assert_eq!(plan.steps, Plan::default().steps);
        assert_eq!(plan.workloads[0].propagation, crate::plan::Propagation::Bidirectional);
    }

    #[test]
    fn a_plan_can_be_written_and_read_back() {
        let more = "source: x\ncause: [daemon-dead, mount-gone]\nworkloads:\n\
                    - {name: p, role: producer, fuse: {options: [suid], serve_after_ms: 5}}\n\
                    - {name: c, role: consumer, volume: {path: /var/c}, bind: {type: Directory}}\n\
                    steps: [{publish: c}, {reopen: c}, {unpublish: c, expect: \
                    {c: {errno: EBUSY, mounts_at: {/var/c: 1}}}}]\n";
        let more = parse("s.yaml", more).expect("valid");
        for plan in [Plan::default(), parse("s.yaml", WHO).expect("valid"), more] {
            let json = serde_json::to_value(&plan).expect("json");
            assert_eq!(from_value(json).expect("read back"), plan);
        }
    }
}
