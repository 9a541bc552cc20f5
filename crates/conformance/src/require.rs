//! The environment variable that turns skips into failures.

use libtest_mimic::{Completion, Failed};

/// The environment variable that names what must be there: words of [`KNOWN`] or names of suites,
/// separated by commas or blanks.
pub const REQUIRE: &str = "PROPAGATION_REQUIRE";

/// The words that the tests and lints of this workspace know, the Python ones included. `all` is every one.
pub const KNOWN: [&str; 29] = [
    "all",
    "fake",
    "local",
    "k8s",
    "k8s-scripts",
    "root",
    "fuse",
    "fusermount3",
    "newuidmap",
    "cgroup",
    "runc",
    "crun",
    "scenario",
    "kernel-filesystems",
    "kernels",
    "runtimes",
    "chromium",
    "graphviz",
    "xmllint",
    "python",
    "bindfs",
    "rclone",
    "smbd",
    "smbnetfs",
    "fio",
    "python3",
    // Of `make lint`.
    "cargo-deny",
    "advisories",
    "shellcheck",
];

/// A test that cannot be done because `what` is absent: skipped with its reason.
///
/// # Errors
/// When [`REQUIRE`] names `what`, and when `what` is not in [`KNOWN`], because it could not be required then.
pub fn skip(what: &str, reason: &str) -> Result<Completion, Failed> {
    Required::from_environment().skip(what, reason)
}

/// The cluster that tests may use is that of `KUBECONFIG`; an empty value names none.
///
/// # Errors
/// The reason of a [`skip`] of `k8s`.
pub fn cluster_named() -> Result<(), &'static str> {
    match std::env::var_os("KUBECONFIG") {
        Some(path) if !path.is_empty() => Ok(()),
        _ => Err("KUBECONFIG names no cluster that tests may use"),
    }
}

/// The words of [`REQUIRE`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Required {
    names: Vec<String>,
}

impl Required {
    pub(crate) fn from_environment() -> Self {
        Self::parse(&std::env::var(REQUIRE).unwrap_or_default())
    }

    pub(crate) fn parse(text: &str) -> Self {
        let words = text.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty());
        Self { names: words.map(ToOwned::to_owned).collect() }
    }

    /// Whether it must be there.
    pub(crate) fn has(&self, what: &str) -> bool {
        self.names.iter().any(|name| name == what || name == "all")
    }

    fn skip(&self, what: &str, reason: &str) -> Result<Completion, Failed> {
        if !KNOWN.contains(&what) {
            return Err(format!("unknown word {what:?} of {REQUIRE} ({reason})").into());
        }
        if self.has(what) {
            return Err(format!("{what} is required here: {reason}").into());
        }
        Ok(Completion::ignored_with(format!("{what}: {reason}")))
    }

    /// A name that nothing has: a slip of the pen would require nothing.
    pub(crate) fn unknown(&self, suites: &[&str]) -> Option<&str> {
        let known =
            |name: &&String| KNOWN.contains(&name.as_str()) || suites.contains(&name.as_str());
        self.names.iter().find(|name| !known(name)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_separated_by_commas_or_blanks() {
        let required = Required::parse("local, k8s");
        assert!(required.has("local") && required.has("k8s") && !required.has("fake"));
        assert!(Required::parse("all").has("fake"));
        assert!(!Required::parse("").has("fake"));
    }

    #[test]
    fn a_name_that_nothing_has_is_found() {
        assert_eq!(Required::parse("local,loacl").unknown(&[]), Some("loacl"));
        assert_eq!(Required::parse("mine").unknown(&["mine"]), None);
        assert_eq!(Required::parse("all").unknown(&[]), None);
    }

    #[test]
    fn what_is_absent_is_skipped_unless_it_is_required() {
        assert!(Required::parse("local").skip("k8s", "no cluster").is_ok());
        for names in ["k8s", "local k8s", "all"] {
            let failed = Required::parse(names).skip("k8s", "no cluster").err();
            let words = failed.and_then(|failed| failed.message().map(ToOwned::to_owned));
            assert_eq!(words.as_deref(), Some("k8s is required here: no cluster"), "{names}");
        }
        assert!(Required::default().skip("cluster", "nobody can require it").is_err());
    }
}
