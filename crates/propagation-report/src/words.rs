//! Escapes text of any content, such as a path or a log line, for display.

use std::borrow::Cow;
use std::fmt::Write;

use propagation_model::cause::Fix;
use propagation_model::plan::ResolvedPath;
use propagation_model::report::Report;

/// As much of one string as a rendering shows; the whole of it is in `report.json`. Longer than any
/// path (4,095 bytes), so that only logs and hostile input are cut.
pub const LONGEST: usize = 4_200;

/// As many lines of evidence, logs or observations as a rendering shows in one place.
pub const MOST_LINES: usize = 200;

/// Text as one line in which everything can be seen: control characters, direction overrides and
/// characters without width are written as Rust escapes.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_invisible) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if !is_invisible(character) {
            line.push(character);
        } else if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.extend(character.escape_unicode());
        }
    }
    Cow::Owned(line)
}

/// What is to be copied of a fix; a command for a container says in a comment which one it is.
pub(crate) fn fix_lines(fix: &Fix) -> Vec<String> {
    let inside = fix.inside.as_ref().map(|name| format!("# in {name}:"));
    inside.into_iter().chain(fix.text.lines().map(str::to_owned)).collect()
}

/// As [`one_line`], cut after [`LONGEST`] characters with the number of those left out.
pub fn short(text: &str) -> Cow<'_, str> {
    // A string of few bytes has few characters.
    if text.len() <= LONGEST {
        return one_line(text);
    }
    let Some((end, _)) = text.char_indices().nth(LONGEST) else { return one_line(text) };
    let mut line = one_line(&text[..end]).into_owned();
    let _ = write!(line, "… ({} more characters)", text[end..].chars().count());
    Cow::Owned(line)
}

/// The first [`MOST_LINES`] of the lines, and how many are left out.
pub fn first_lines<T>(lines: &[T]) -> (&[T], usize) {
    let shown = lines.len().min(MOST_LINES);
    (&lines[..shown], lines.len() - shown)
}

/// Whether a character has no sign of its own, changes the direction of text, or is not allowed in
/// XML 1.0.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
            | '\u{e0000}'..='\u{e007f}')
}

/// A duration in the unit that suits it: `0.4 ms`, `27.7 ms`, `4.03 s`, `2 min 5 s`.
pub fn duration(ms: f64) -> String {
    if ms < 1_000.0 {
        format!("{ms:.1} ms")
    } else if ms < 60_000.0 {
        format!("{:.2} s", ms / 1e3)
    } else {
        let seconds = (ms / 1e3).round();
        format!("{} min {} s", (seconds / 60.0).floor(), seconds % 60.0)
    }
}

/// Where a run took place.
pub(crate) fn where_it_ran(report: &Report) -> String {
    match report.backend.as_str() {
        LOCAL => match &report.environment {
            Some(facts) => {
                let kernel = one_line(&facts.kernel_release);
                format!("a simulated node, on this machine's kernel (Linux {kernel})")
            }
            None => "a simulated node, on this machine's kernel".to_owned(),
        },
        other => format!("{} node {}", one_line(other), one_line(&report.node)),
    }
}

/// What a simulated node leaves alone on the machine that it is on.
pub(crate) fn untouched(report: &Report) -> Option<String> {
    (report.backend == LOCAL).then(|| {
        let path = one_line(&report.plan.bridge.path);
        format!("The node had a {path} of its own; yours is not touched")
    })
}

/// Where symbolic links of the node lead the paths that were asked for.
pub(crate) fn resolved(report: &Report) -> Vec<String> {
    let lead = |path: &ResolvedPath| {
        let (asked, on_node) = (one_line(&path.asked), one_line(&path.on_node));
        format!("On the node {asked} leads to {on_node}, which this report names")
    };
    report.resolved.iter().map(lead).collect()
}

/// What the machine of a simulated node has at the bridge, and whether it would answer otherwise.
pub(crate) fn beside(report: &Report) -> Option<String> {
    let facts = report.environment.as_ref()?;
    let real = facts.machine_covering_mount.as_ref()?;
    let simulated = facts.covering_mount.as_ref()?.propagation();
    let (at, kind) = (real.mount_point.to_string(), real.propagation());
    let (at, path) = (one_line(&at), one_line(&report.plan.bridge.path));
    Some(match facts.unlike_machine() {
        None => {
            format!("On this host {at}, which covers {path}, is {kind}, as on the simulated node")
        }
        Some(_) => format!(
            "On this host {at}, which covers {path}, is {kind}, so the answer here would be another: the simulated \
             node has it {simulated} (--like-this-host makes it alike)"
        ),
    })
}

/// The name of the backend of simulated nodes in reports.
const LOCAL: &str = "local";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_for_a_container_says_so() {
        let fix = Fix::command("take it off", "umount /mnt");
        assert_eq!(fix_lines(&fix), ["umount /mnt"]);
        assert_eq!(fix_lines(&fix.inside("app")), ["# in app:", "umount /mnt"]);
    }

    #[test]
    fn everything_can_be_seen() {
        assert_eq!(
            one_line("a\u{1b}[2Jb\nc\td\u{7}e\u{9b}f"),
            "a\\u{1b}[2Jb\\nc\\td\\u{7}e\\u{9b}f"
        );
        assert_eq!(
            one_line("x\u{202e}y\u{2066}z\u{200b}\u{feff}"),
            "x\\u{202e}y\\u{2066}z\\u{200b}\\u{feff}"
        );
        assert!(matches!(one_line("/mnt/ü <b>"), Cow::Borrowed("/mnt/ü <b>")));
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let long = "ü".repeat(LONGEST + 3);
        let cut = short(&long);
        assert!(cut.ends_with("ü… (3 more characters)"), "{cut}");
        let fits = "ü".repeat(LONGEST);
        assert_eq!(short(&fits), fits);
    }

    #[test]
    fn durations_have_the_unit_that_suits_them() {
        for (ms, words) in
            [(0.44, "0.4 ms"), (999.9, "999.9 ms"), (4026.3, "4.03 s"), (125_000.0, "2 min 5 s")]
        {
            assert_eq!(duration(ms), words);
        }
    }
}
