//! Suggestions for mistakes in scenario files.

use crate::suggest::nearest;

/// A deserialiser's message, in words for people.
pub(super) fn words(said: &str) -> String {
    let said = with_hint(said).map_or(said, |(reason, _)| reason);
    let (before, wanted) = said.rsplit_once("expected ").unwrap_or((said, ""));
    let range = match wanted {
        "u32" => format!("from 0 to {}", u32::MAX),
        "u64" | "usize" => "0 or more".into(),
        "i32" | "i64" => "with a minus in front when it is below 0".into(),
        _ => return said.to_owned(),
    };
    format!("{before}expected a whole number, {range}")
}

/// A type's message for an unknown word, and its hint: `unknown outcome "okay"; did you mean ok?`.
fn with_hint(said: &str) -> Option<(&str, &str)> {
    let of_a_type = said.starts_with("unknown ") && !said.contains('`');
    said.rsplit_once("; ").filter(|_| of_a_type)
}

/// The suggestion. `at` is the path of the value, as in `workloads[1].volume`.
pub(super) fn hint(at: &str, said: &str) -> Option<String> {
    if let Some((_, hint)) = with_hint(said) {
        return Some(hint.to_owned());
    }
    let mut quoted = said.split('`').skip(1).step_by(2);
    if said.starts_with("unknown") {
        let wrong = quoted.next()?;
        if said.starts_with("unknown field") && matches!(wrong, "true" | "false") {
            let key = if wrong == "true" { "on" } else { "off" };
            return Some(format!(
                "YAML 1.1 reads {key} as {wrong}: have the program that wrote this file put \"{key}\" in quotes"
            ));
        }
        // The same parts, joined in another way.
        let same = quoted.clone().find(|known| parts(known) == parts(wrong));
        return other_names(at, wrong)
            .or_else(|| same.map(|known| format!("did you mean {known}?")))
            .or_else(|| nearest(wrong, quoted).map(|near| format!("did you mean {near}?")));
    }
    let field = at.rsplit('.').next().unwrap_or_default();
    let field = field.split('[').next().unwrap_or_default();
    let wrong_type = |found: &str, wanted: &str| {
        said.starts_with(&format!("invalid type: {found}"))
            && said.contains(&format!("expected {wanted}"))
    };
    if wrong_type("map", "a string") && at.ends_with(']') {
        return Some(
            "a placeholder needs quotes, because {…} is a map in YAML: \"{mountpoint}\"".into(),
        );
    }
    if wrong_type("string", "a sequence") {
        return Some(match field {
            "run" | "command" => {
                format!("write a list, one word each: {field}: [ls, \"{{mountpoint}}\"]")
            }
            _ => format!("write a list: {field}: [...]"),
        });
    }
    if wrong_type("", "a boolean") {
        return Some("write true or false".into());
    }
    if wrong_type("string", "u") || wrong_type("string", "i32") || wrong_type("string", "i64") {
        return Some(number(at, field, said));
    }
    if wrong_type("integer `0`", "") && at.contains("errors") {
        return Some("write \"0\", in quotes: an errno is a word".into());
    }
    None
}

/// The parts of a word, in an order of their own.
fn parts(word: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = word.split([',', '_', '-', '+', ' ']).collect();
    parts.sort_unstable();
    parts
}

/// How to write the number that a word stands for.
fn number(at: &str, field: &str, said: &str) -> String {
    let word = said.split('"').nth(1).unwrap_or_default();
    let digits = word.replace('_', "");
    let is_number = digits.parse::<u64>().is_ok();
    let value = if is_number { digits.as_str() } else { "2" };
    let value = if at.ends_with(']') { format!("[{value}]") } else { value.to_owned() };
    match (is_number, word.contains('_'), field) {
        (true, false, _) => format!("write the number without quotes: {field}: {value}"),
        (true, true, _) => format!("write the digits alone: {field}: {value}"),
        (false, _, "groups") => {
            format!("write the number of the group, as `getent group` shows it: {field}: {value}")
        }
        (false, ..) => format!("write a number: {field}: {value}"),
    }
}

/// Words of the kernel and of Docker with another name in Kubernetes, and paths for volumes.
fn other_names(at: &str, wrong: &str) -> Option<String> {
    if at.ends_with("fault") {
        let fault = match wrong.to_lowercase().trim_start_matches("sig") {
            "kill" | "dead" | "die" | "crash" => "kill",
            "term" => "terminate",
            "stop" | "hang" => "stop",
            "cont" => "continue",
            _ => return None,
        };
        return Some(format!("did you mean {fault}?"));
    }
    let kubernetes = match wrong {
        "private" | "rprivate" | "none" => "None",
        "slave" | "rslave" => "HostToContainer",
        "shared" | "rshared" => "Bidirectional",
        path if at.ends_with("volume") && path.starts_with('/') => {
            return Some(format!("write volume: {{path: {path}}}"));
        }
        _ => return None,
    };
    at.ends_with("propagation")
        .then(|| format!("write {kubernetes}, which is Kubernetes' name for {wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_is_said() {
        for (at, said, expected) in [
            (
                "workloads[1].volume",
                "unknown variant `/srv/x`, expected one of `bridge`",
                "{path: /srv/x}",
            ),
            (
                "workloads[1].propagation",
                "unknown variant `rslave`, expected `None`",
                "HostToContainer",
            ),
            (
                "steps[0].fault",
                "unknown variant `kil`, expected one of `kill`",
                "did you mean kill?",
            ),
            (
                "steps[0]",
                "unknown field `true`, expected one of `name`, `on`",
                "YAML 1.1 reads on as true",
            ),
            (
                "steps[0].expect.app",
                "unknown outcome \"okay\"; did you mean ok?",
                "did you mean ok?",
            ),
            (
                "steps[0].fault",
                "unknown variant `sigkill`, expected one of `kill`",
                "did you mean kill?",
            ),
            ("steps[1].run[1]", "invalid type: map, expected a string", "needs quotes"),
            ("steps[1].run", "invalid type: string \"ls\", expected a sequence", "run: [ls"),
            ("workloads[1].replicas", "invalid type: string \"two\", expected u32", "replicas: 2"),
            (
                "workloads[1].uid",
                "invalid type: string \"1000\", expected u32",
                "quotes: uid: 1000",
            ),
            (
                "workloads[1].uid",
                "invalid type: string \"1_000\", expected u32",
                "alone: uid: 1000",
            ),
            (
                "workloads[1].groups[0]",
                "invalid type: string \"audio\", expected u32",
                "getent group` shows it: groups: [2]",
            ),
            (
                "steps[0].fault.errors",
                "invalid type: integer `0`, expected an errno",
                "write \"0\"",
            ),
            (
                "steps[0].expect.node.propagation",
                "unknown variant `slave,shared`, expected one of `slave`, `shared,slave`",
                "did you mean shared,slave?",
            ),
            ("fuse.read_only", "invalid type: string \"yes\", expected a boolean", "true or false"),
        ] {
            let hint = hint(at, said).unwrap_or_default();
            assert!(hint.contains(expected), "{said}: {hint}");
        }
        assert_eq!(hint("a", "missing field `name`"), None);
    }

    #[test]
    fn types_of_rust_are_not_shown() {
        let said = words("invalid type: string \"two\", expected u32");
        assert_eq!(
            said,
            "invalid type: string \"two\", expected a whole number, from 0 to 4294967295"
        );
        assert_eq!(words("missing field `name`"), "missing field `name`");
    }
}
