//! Texts that several rules use: quoting for shells and YAML, and sources.

use crate::mountinfo::MountEntry;

/// Source for how mounts propagate.
pub(super) const SHARED_SUBTREES: &str =
    "mount_namespaces(7), SHARED SUBTREES; https://docs.kernel.org/filesystems/sharedsubtree.html";

/// Source for the modes of Kubernetes.
pub(super) const KUBERNETES_MODES: &str =
    "https://kubernetes.io/docs/concepts/storage/volumes/#mount-propagation";

/// Source for the life of a FUSE connection.
pub(super) const FUSE_CONNECTIONS: &str =
    "https://docs.kernel.org/filesystems/fuse.html, Control filesystem and Aborting a connection";

/// Source for who may access a FUSE mount.
pub(super) const FUSE_OPTIONS: &str = "mount.fuse3(8), allow_other; fusermount3(1), FILES";

/// `text` as one word of a POSIX shell.
pub(crate) fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// `text` as a YAML scalar: plain when that is safe, in double quotes (as JSON) otherwise.
pub(crate) fn yaml(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.starts_with(|c: char| c == '/' || c.is_ascii_alphabetic()) && text.chars().all(plain) {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

/// A mountinfo line with its owner.
pub(super) fn line(whose: impl std::fmt::Display, entry: &MountEntry) -> String {
    format!("{whose}: {entry}")
}

/// A few names in words: `a, b and 3 more`.
pub(super) fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 4;
    let all: Vec<&str> = names.into_iter().collect();
    match all.len() {
        0..=SHOWN => all.join(", "),
        more => format!("{} and {} more", all[..SHOWN].join(", "), more - SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_paths_stay_one_word() {
        assert_eq!(shell("/tmp/fuse-test-bridge"), "/tmp/fuse-test-bridge");
        assert_eq!(shell("/tmp/a b"), "'/tmp/a b'");
        assert_eq!(shell("/tmp/$(reboot)'x"), r"'/tmp/$(reboot)'\''x'");
        assert_eq!(shell(""), "''");
    }

    #[test]
    fn hostile_paths_stay_one_scalar() {
        assert_eq!(yaml("/tmp/fuse-test-bridge"), "/tmp/fuse-test-bridge");
        assert_eq!(yaml("/tmp/a: b #c"), r#""/tmp/a: b #c""#);
        assert_eq!(yaml("/tmp/\"\n"), r#""/tmp/\"\n""#);
    }

    #[test]
    fn many_names_are_counted() {
        assert_eq!(names(["a", "b"]), "a, b");
        assert_eq!(names(["a", "b", "c", "d", "e", "f"]), "a, b, c, d and 2 more");
    }
}
