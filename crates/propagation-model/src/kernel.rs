//! Kernel features that matter to FUSE mounts in containers, and the versions that introduced them.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A feature of the kernel.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum KernelFeature {
    /// A private mount joins the peer group of another one (`MOVE_MOUNT_SET_GROUP`).
    Reconnect,
    /// A mount is put beneath another one (`MOVE_MOUNT_BENEATH`).
    RebindWithoutHole,
    /// Mounts are listed by a call (`listmount`).
    Listmount,
    /// Requests that a daemon had taken are sent to its successor (`FUSE_NOTIFY_RESEND`).
    Resend,
    /// Open files are read and written without the daemon (FUSE passthrough).
    Passthrough,
    /// FUSE mounts can be idmapped.
    IdmappedMounts,
    /// Requests are passed by io_uring.
    IoUring,
    /// A connection whose daemon does not answer in time is ended (`fs.fuse.default_request_timeout`).
    RequestTimeout,
    /// fanotify reports mounts (`FAN_REPORT_MNT`).
    MountEvents,
    /// /proc says which connection a descriptor of /dev/fuse is (`fuse_connection` in fdinfo).
    DaemonNames,
}

impl KernelFeature {
    /// All features, the oldest first.
    pub const ALL: [Self; 10] = [
        Self::Reconnect,
        Self::RebindWithoutHole,
        Self::Listmount,
        Self::Resend,
        Self::Passthrough,
        Self::IdmappedMounts,
        Self::IoUring,
        Self::RequestTimeout,
        Self::MountEvents,
        Self::DaemonNames,
    ];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reconnect => "reconnect",
            Self::RebindWithoutHole => "rebind_without_hole",
            Self::Listmount => "listmount",
            Self::Resend => "resend",
            Self::Passthrough => "passthrough",
            Self::IdmappedMounts => "idmapped_mounts",
            Self::IoUring => "io_uring",
            Self::RequestTimeout => "request_timeout",
            Self::MountEvents => "mount_events",
            Self::DaemonNames => "daemon_names",
        }
    }

    /// The first version of Linux that has it; distributions carry some of it back.
    pub fn since(self) -> Version {
        match self {
            Self::Reconnect => Version(5, 15),
            Self::RebindWithoutHole => Version(6, 5),
            Self::Listmount => Version(6, 8),
            Self::Resend | Self::Passthrough => Version(6, 9),
            Self::IdmappedMounts => Version(6, 12),
            Self::IoUring => Version(6, 14),
            Self::RequestTimeout | Self::MountEvents => Version(6, 15),
            Self::DaemonNames => Version(6, 16),
        }
    }

    /// Its benefit here.
    pub fn worth(self) -> &'static str {
        match self {
            Self::Reconnect => {
                "a running consumer with mode None can be made to receive later mounts: repair \
                 reconnect_consumer"
            }
            Self::RebindWithoutHole => {
                "no program sees the directory underneath while a consumer is re-bound"
            }
            Self::Listmount => "whether anything is mounted anew is asked in microseconds",
            Self::Resend => {
                "a hand-over loses no request that the dead daemon had taken; without, they end with EIO"
            }
            Self::Passthrough => "a daemon can let open files be read at the speed of the disk",
            Self::IdmappedMounts => {
                "pods with a user namespace (hostUsers: false) can have FUSE volumes"
            }
            Self::IoUring => "daemons that use it answer with fewer switches between processes",
            Self::RequestTimeout => {
                "a daemon that is stopped or stuck gives ENOTCONN instead of a hang for ever"
            }
            Self::MountEvents => {
                "a driver learns which mount came or went without reading mount tables"
            }
            Self::DaemonNames => "the daemon behind a FUSE mount is found exactly",
        }
    }

    /// How to enable it where it is switched off: a line for a root shell.
    pub fn switch(self) -> Option<&'static str> {
        match self {
            Self::IoUring => Some("echo Y > /sys/module/fuse/parameters/enable_uring"),
            Self::RequestTimeout => Some("sysctl -w fs.fuse.default_request_timeout=20"),
            _ => None,
        }
    }
}

/// Major and minor number of a kernel's version; in files the text `"6.9"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl Version {
    /// The version in a release, as `uname -r` gives it; none when it begins otherwise.
    ///
    /// ```
    /// use propagation_model::kernel::Version;
    ///
    /// assert_eq!(Version::of_release("6.1.0-28-amd64"), Some(Version(6, 1)));
    /// assert!(Version(6, 12) > Version(6, 5));
    /// ```
    pub fn of_release(release: &str) -> Option<Self> {
        let mut numbers = release.split(|sign: char| !sign.is_ascii_digit());
        let mut next = || numbers.next()?.parse().ok();
        Some(Self(next()?, next()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.0, self.1)
    }
}

impl FromStr for Version {
    type Err = String;

    /// Reads `MAJOR.MINOR`.
    ///
    /// # Errors
    /// What is wrong, and an example.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| match digits.bytes().all(|sign| sign.is_ascii_digit()) {
            true => digits.parse().ok(),
            false => None,
        };
        let numbers = text.split_once('.');
        let version = numbers.and_then(|(major, minor)| Some(Self(number(major)?, number(minor)?)));
        version
            .ok_or_else(|| format!("{text:?} is not a kernel's version; write one such as \"6.9\""))
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Version;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a kernel's version in quotes, such as \"6.9\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Version, E> {
                text.parse().map_err(E::custom)
            }
        }

        // A number is refused: 6.10 would be read as 6.1.
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for Version {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A kernel's version, such as \"6.9\".",
            "type": "string",
            "pattern": r"^[0-9]+\.[0-9]+$",
        })
    }
}

/// Whether a kernel supports a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeatureState {
    /// It can be used.
    There,
    /// The kernel has it, and it is switched off.
    Off,
    /// The kernel does not have it.
    Missing,
}

/// Source of that knowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// The kernel was asked.
    Probed,
    /// By the version, because the kernel cannot be asked without a change or a privilege.
    ByVersion,
}

/// State of one kernel feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FeatureFact {
    /// The feature.
    pub feature: KernelFeature,
    /// Whether it is supported.
    pub state: FeatureState,
    /// Source of that knowledge.
    pub known: Known,
}

impl FeatureFact {
    /// The state, as the kernel answered.
    pub fn probed(feature: KernelFeature, state: FeatureState) -> Self {
        Self { feature, state, known: Known::Probed }
    }

    /// The state, by the version of a kernel's release.
    pub fn by_version(feature: KernelFeature, release: &str) -> Self {
        let there = Version::of_release(release).is_some_and(|version| version >= feature.since());
        let state = if there { FeatureState::There } else { FeatureState::Missing };
        Self { feature, state, known: Known::ByVersion }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_json_and_the_oldest_comes_first() {
        for feature in KernelFeature::ALL {
            assert_eq!(serde_json::to_value(feature).expect("a name"), feature.name());
        }
        assert!(KernelFeature::ALL.is_sorted_by_key(|feature| feature.since()));
    }

    #[test]
    fn a_version_is_text_and_nothing_else() {
        let read = |json: &str| serde_json::from_str::<Version>(json).map_err(|e| e.to_string());
        assert_eq!(read("\"6.10\""), Ok(Version(6, 10)));
        assert_eq!(serde_json::to_value(Version(6, 10)).expect("text"), "6.10");
        for wrong in ["\"6\"", "\"6.9.1\"", "\"v6.9\"", "\"6.+9\"", "\"6.\"", "6.10", "6"] {
            let error = read(wrong).expect_err(wrong);
            assert!(error.contains("such as \"6.9\""), "{wrong}: {error}");
        }
    }

    #[test]
    fn debian_12_has_what_is_as_old_as_it() {
        let has = |feature| FeatureFact::by_version(feature, "6.1.0-28-amd64").state;
        assert_eq!(has(KernelFeature::Reconnect), FeatureState::There);
        assert_eq!(has(KernelFeature::Resend), FeatureState::Missing);
    }
}
