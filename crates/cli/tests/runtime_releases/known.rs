//! What comes out otherwise with some releases and is the runtime's own.

/// A difference that is known.
#[derive(Debug)]
pub(super) struct Known {
    /// How the names of its releases begin.
    pub(super) releases: &'static str,
    /// The scenario that it shows in, or none where nearly every one does.
    pub(super) scenario: Option<&'static str>,
    /// What the runtime does.
    pub(super) why: &'static str,
}

/// Every known difference. A release with which one no longer shows fails its test.
pub(super) const KNOWN: [Known; 3] = [
    Known {
        releases: "crun-0.17",
        scenario: None,
        why: "nothing propagates, whatever the mode. Before it binds the volumes it makes two mounts private: the one \
              that its state directory lies on, and `/tmp` (`libcrun_set_mounts`, the temporary mounts). The bridge \
              lies on one of them. Only volumes on other mounts keep their propagation. A regression of crun that \
              0.18 mended (https://bugzilla.redhat.com/show_bug.cgi?id=1924841)",
    },
    Known {
        releases: "crun-1.",
        scenario: Some("bind-without-what-is-below"),
        why: "it makes every bind recursive, also one with the option `bind`",
    },
    Known {
        releases: "runc-1.0",
        scenario: Some("read-only-volumes"),
        why: "it does not know the mount option `rro`, which came with 1.1.0, and ignores it: what is mounted below a \
              recursively read-only volume can be written. containerd 2 asks the runtime whether it has the option \
              (`runc features`), and the kubelet refuses such a volume where it has not",
    },
];

/// Those of a release, such as `runc-1.1.5+ds1-1`.
pub(super) fn of(release: &str) -> impl Iterator<Item = &'static Known> {
    KNOWN.iter().filter(move |known| release.starts_with(known.releases))
}
