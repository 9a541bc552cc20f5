//! Placeholders in commands, and misspelt ones.

use super::problem::Problem;
use crate::suggest::nearest;

/// Placeholders for a program of a step.
pub(super) const OF_STEPS: [&str; 3] = ["mountpoint", "bridge", "marker"];

/// Placeholders for a program that serves a filesystem.
pub(super) const OF_FUSE: [&str; 3] = ["mountpoint", "source", "work"];

/// An unknown word in braces that resembles a placeholder, or one that is a placeholder elsewhere. Other words are left
/// alone, because shells and awk use braces too.
pub(super) fn misspelt(at: &str, word: &str, known: &[&str]) -> Option<Problem> {
    let of_others = |name: &str| OF_STEPS.iter().chain(&OF_FUSE).any(|other| *other == name);
    let there: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
    let there = there.join(", ");
    in_braces(word).filter(|name| !known.contains(name)).find_map(|name| {
        if of_others(name) {
            let reason = format!("the placeholder {{{name}}} has no meaning here");
            return Some(Problem::new(at, reason, format!("use {there}, or write the path")));
        }
        let near = nearest(name, known.iter().copied())?;
        let reason = format!("unknown placeholder {{{name}}}");
        Some(Problem::new(at, reason, format!("did you mean {{{near}}}? There are {there}")))
    })
}

/// The names in braces, except for variables of a shell.
fn in_braces(word: &str) -> impl Iterator<Item = &str> {
    word.match_indices('{').filter_map(|(open, _)| {
        let name = word[open + 1..].split_once('}')?.0;
        let of_a_shell = word[..open].ends_with('$');
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        (is_name && !of_a_shell).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_to_a_placeholder_is_misspelt() {
        let hint = |word| misspelt("steps[0].run[1]", word, &OF_STEPS).map(|problem| problem.fix);
        assert!(hint("{mount}/x").is_some_and(|fix| fix.contains("did you mean {mountpoint}?")));
        assert!(hint("{market}").is_some_and(|fix| fix.contains("did you mean {marker}?")));
        assert!(hint("{print} {source}").is_some_and(|fix| fix.contains("{mountpoint}, ")));
        let of_fuse = misspelt("fuse.command[1]", "{bridge}", &OF_FUSE);
        assert!(of_fuse.is_some_and(|problem| problem.reason.contains("no meaning here")));
        for fine in ["{mountpoint}", "{print}", "${mount}", "{}", "{print $1}", "a{1,2}"] {
            assert_eq!(hint(fine), None, "{fine}");
        }
    }
}
