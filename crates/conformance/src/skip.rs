//! Skips: typed, with a reason, and not accepted where the environment is required.

use std::fmt;

use crate::case::Need;

/// The environment variable that names the backends which must be there.
pub const REQUIRE: &str = "PROPAGATION_REQUIRE";

/// Why a case was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Skip {
    /// The backend cannot open a node on this machine.
    Absent {
        /// What is missing.
        reason: String,
    },
    /// What the case needs is not there.
    Lacks(Need),
    /// There is nothing to be tested on this node; acceptable everywhere.
    NotApplicable {
        /// Why not.
        reason: String,
    },
}

impl fmt::Display for Skip {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { reason } => write!(formatter, "environment absent: {reason}"),
            Self::Lacks(need) => write!(formatter, "requires {need}"),
            Self::NotApplicable { reason } => write!(formatter, "not applicable: {reason}"),
        }
    }
}

/// The backends that must be there, from [`REQUIRE`].
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

    /// Whether the backend must be there.
    pub(crate) fn has(&self, backend: &str) -> bool {
        self.names.iter().any(|name| name == backend || name == "all")
    }

    /// A name that no backend has: a slip of the pen would require nothing.
    pub(crate) fn unknown(&self, suites: &[&str]) -> Option<&str> {
        /// The backends of this workspace, and what its other tests require by the same variable.
        const KNOWN: [&str; 17] = [
            "all",
            "fake",
            "local",
            "k8s",
            "root",
            "fuse",
            "fusermount3",
            "newuidmap",
            "cgroup",
            "runc",
            "crun",
            "scenario",
            "chromium",
            "graphviz",
            "xmllint",
            "python",
            "cluster",
        ];
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
    fn a_name_that_no_backend_has_is_found() {
        assert_eq!(Required::parse("local,loacl").unknown(&[]), Some("loacl"));
        assert_eq!(Required::parse("mine").unknown(&["mine"]), None);
        assert_eq!(Required::parse("all").unknown(&[]), None);
    }
}
