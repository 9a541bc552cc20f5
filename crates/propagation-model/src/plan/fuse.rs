//! The FUSE filesystem that a producer serves.

use std::collections::BTreeMap;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::comparison::Transport;

/// What a producer does with dead mounts that lie on its mountpoint when it starts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Stale {
    /// Unmounts them lazily, in its own mount namespace, then mounts. A live mount stays, and what is under it.
    #[default]
    Unmount,
    /// Mounts on top of them.
    Stack,
    /// Looks at the mountpoint first, as many daemons do, and fails when that does.
    Fail,
}

/// Where the marker file of an external daemon is written.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MarkerPlace {
    /// Into `{source}`, the directory that the daemon shows, before it starts.
    #[default]
    Source,
    /// Through the mount, once it is there: for daemons that begin empty.
    Mount,
}

/// The FUSE filesystem: the built-in one, any program, or a transport.
///
/// In `command`, `prepare` and `environment`, `{mountpoint}` is where to mount, `{source}` a fresh
/// directory with the marker in it, `{work}` a fresh empty directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FuseSpec {
    /// Whether it admits other users than the mounting one.
    pub allow_other: bool,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// More options of the mount, as mount(8) has them: `default_permissions`, `suid`, `dev`, `noexec`.
    /// Built-in filesystem only; without them it is nosuid and nodev. fusermount3 may refuse one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Delay between the mount and the first answer, in milliseconds: until then every access waits. Built-in
    /// filesystem only.
    #[serde(skip_serializing_if = "is_zero")]
    pub serve_after_ms: u64,
    /// What a producer does with dead mounts when it starts.
    pub stale: Stale,
    /// Whether a keeper on the node holds the `/dev/fuse` descriptor, so that a successor can take
    /// over. Built-in filesystem only, and not under a supervisor.
    pub keeper: bool,
    /// The program and its arguments; it must stay in the foreground. By default the built-in
    /// filesystem.
    #[serde(deserialize_with = "a_program", skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The transport that makes the mount instead of a daemon: a server and its client, both in the producer's container.
    /// Faults hit the server, or the FUSE filesystem that it serves again; when it starts again, the client stays and
    /// nothing is mounted anew. Not `native`, which mounts nothing, nor `daemon`, which is `command`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// Programs that run before it, in order, each to its end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prepare: Vec<Vec<String>>,
    /// Variables for all of these programs. In the plan of a report a value is null, because it may be a secret;
    /// such a plan cannot be run until the value is filled in.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, Option<String>>,
    /// The filesystem type that the mount has in mountinfo (`fuse.rclone`); any FUSE type by default.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub fs_type: Option<String>,
    /// Where the marker is written.
    pub marker: MarkerPlace,
}

/// Reads a program and its arguments.
fn a_program<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let command = Vec::deserialize(deserializer)?;
    if command.is_empty() {
        let words = "no program given; leave out `command` for the built-in filesystem";
        return Err(de::Error::custom(words));
    }
    Ok(command)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Default for FuseSpec {
    fn default() -> Self {
        Self {
            allow_other: true,
            read_only: false,
            options: Vec::new(),
            serve_after_ms: 0,
            stale: Stale::default(),
            keeper: false,
            command: Vec::new(),
            transport: None,
            prepare: Vec::new(),
            environment: BTreeMap::new(),
            fs_type: None,
            marker: MarkerPlace::default(),
        }
    }
}

impl FuseSpec {
    /// Whether it is the built-in filesystem.
    pub fn is_builtin(&self) -> bool {
        self.command.is_empty() && self.transport.is_none()
    }

    /// Removes the values of the variables; their names stay.
    pub(super) fn hide_secrets(&mut self) {
        self.environment.values_mut().for_each(|value| *value = None);
    }

    /// Name of a variable with a removed value; none when every variable has its value.
    pub(super) fn hidden(&self) -> Option<&str> {
        let hidden = self.environment.iter().find(|(_, value)| value.is_none());
        hidden.map(|(name, _)| name.as_str())
    }
}
