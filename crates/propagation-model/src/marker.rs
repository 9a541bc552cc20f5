//! The marker: the file whose content is fresh in every producer generation.
//!
//! A stale mount, an old layer or the lower filesystem can never pass for the mount of the current
//! generation, because none of them knows its nonce.

use serde::{Deserialize, Serialize};

/// The name of the marker file inside the FUSE mount.
pub const MARKER_FILE: &str = "producer-marker.txt";

/// The name of the plain (not FUSE) file that a producer writes into the bridge itself.
pub const PLAIN_FILE: &str = "producer-plain.txt";

/// The root of the filesystem.
const ROOT: &str = "/";

/// Prefix of the line that names the directory.
const DIRECTORY: &str = "directory=";

/// Content of a marker file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Marker {
    /// When the producer started, as it wrote it (RFC 3339, UTC).
    pub started: String,
    /// Number of the producer's start that wrote it, counted from 1.
    pub generation: u64,
    /// The nonce of that generation.
    pub nonce: String,
}

impl Marker {
    /// The content of the marker file in the root of the filesystem.
    pub fn render(&self) -> String {
        self.render_in(ROOT)
    }

    /// The content of the marker file in a directory of the filesystem: outside the root it names the directory, so
    /// that the markers of two directories differ.
    pub fn render_in(&self, directory: &str) -> String {
        let Self { started, generation, nonce } = self;
        let line = match directory {
            ROOT => String::new(),
            directory => format!("{DIRECTORY}{directory}\n"),
        };
        format!("producer-started-{started}\ngeneration={generation}\nnonce={nonce}\n{line}")
    }

    /// Parses a marker; `None` when the content is not a whole marker.
    ///
    /// ```
    /// use propagation_model::marker::Marker;
    ///
    /// let marker = Marker { started: "2026-02-28T10:00:00Z".into(), generation: 2, nonce: "ab12".into() };
    /// assert_eq!(Marker::parse(marker.render().as_bytes()), Some(marker));
    /// assert_eq!(Marker::parse(b"producer-started-"), None);
    /// ```
    pub fn parse(content: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(content).ok()?.lines();
        let started = lines.next()?.strip_prefix("producer-started-")?.to_owned();
        let generation = lines.next()?.strip_prefix("generation=")?.parse().ok()?;
        let nonce = lines.next()?.strip_prefix("nonce=")?.to_owned();
        (!nonce.is_empty() && !started.is_empty()).then_some(Self { started, generation, nonce })
    }

    /// The directory of the filesystem that the content of a whole marker belongs to.
    ///
    /// ```
    /// use propagation_model::marker::Marker;
    ///
    /// let marker = Marker { started: "2026-02-28T10:00:00Z".into(), generation: 2, nonce: "ab12".into() };
    /// assert_eq!(Marker::directory_of(marker.render().as_bytes()), "/");
    /// assert_eq!(Marker::directory_of(marker.render_in("/sub").as_bytes()), "/sub");
    /// ```
    pub fn directory_of(content: &[u8]) -> &str {
        let mut lines = std::str::from_utf8(content).unwrap_or_default().lines();
        lines.find_map(|line| line.strip_prefix(DIRECTORY)).unwrap_or(ROOT)
    }

    /// Why the content is not one of the fresh markers; none when it is one, or nothing is expected.
    pub fn differs_from(&self, fresh: &[Self]) -> Option<String> {
        if fresh.is_empty() || fresh.iter().any(|one| one.nonce == self.nonce) {
            return None;
        }
        let found = self.generation;
        Some(match fresh {
            [one] if one.generation <= found => {
                "the nonce of another producer, or of another run".into()
            }
            [one] => format!("the marker of generation {found}, not {}", one.generation),
            _ => format!("the marker of generation {found}, which no producer serves any more"),
        })
    }
}
