//! Fixes that give a daemon another mount option.

use std::path::Path;

use super::cause::Fix;
use super::scene::Scene;
use super::text::yaml;
use crate::plan::{FuseSpec, WorkloadSpec};

/// Fix that lets the daemon of a producer mount with more options, such as `suid`; in words where its command line is
/// not known. For the built-in filesystem it is `key` of the scenario.
pub(super) fn with(
    scene: &Scene<'_>,
    producer: Option<&WorkloadSpec>,
    key: &str,
    option: &str,
    words: String,
) -> Fix {
    let fuse = producer.map_or(&scene.report.plan.fuse, |spec| scene.report.plan.fuse_of(spec));
    match text(fuse, key, option) {
        Some(text) => Fix::yaml(words, text),
        None => Fix::words(words),
    }
}

fn text(fuse: &FuseSpec, key: &str, option: &str) -> Option<String> {
    let Some(program) = fuse.command.first() else {
        return Some(format!("fuse:\n  {key}   # the option -o {option} of a daemon\n"));
    };
    // Options stand behind the program, or behind what it is to do. Where they stand with another is not known.
    let behind = match Path::new(program).file_name()?.to_str()? {
        "bindfs" | "sshfs" | "mergerfs" | "squashfuse" | "archivemount" | "smbnetfs" => 1,
        "rclone" => 2,
        _ => return None,
    };
    let (first, rest) = fuse.command.split_at_checked(behind)?;
    let added = ["-o".to_owned(), option.to_owned()];
    let words: Vec<String> =
        first.iter().chain(&added).chain(rest).map(|word| quoted(word)).collect();
    Some(format!("fuse:\n  command: [{}]\n", words.join(", ")))
}

/// A word in a list of YAML.
fn quoted(word: &str) -> String {
    match word.starts_with('-') {
        true => serde_json::Value::from(word).to_string(),
        false => yaml(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &[&str]) -> Option<String> {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let fuse = FuseSpec { command, ..FuseSpec::default() };
        text(&fuse, "options: [suid]", "suid")
    }

    #[test]
    fn an_option_stands_behind_the_program() {
        assert_eq!(
            of(&["bindfs", "-f", "{source}", "{mountpoint}"]).as_deref(),
            Some(
                "fuse:\n  command: [bindfs, \"-o\", suid, \"-f\", \"{source}\", \"{mountpoint}\"]\n"
            )
        );
        assert!(
            of(&["rclone", "mount", ":local:/a", "{mountpoint}"])
                .is_some_and(|text| { text.contains("[rclone, mount, \"-o\", suid, ") })
        );
        assert_eq!(of(&["sh", "-c", "exec bindfs /a /b"]), None);
        assert!(of(&[]).is_some_and(|text| text.starts_with("fuse:\n  options: [suid]")));
    }
}
