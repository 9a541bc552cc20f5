//! A mount: one line of mountinfo.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::FieldError;
use super::escape::write_escaped;
use super::path::MountPath;

/// The device number of a superblock, written `major:minor`.
///
/// Every FUSE mount gets a new one (`0:N`), so it tells a restarted daemon's mount from the dead
/// one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[derive(schemars::JsonSchema)]
pub struct DeviceId {
    /// The driver; 0 for filesystems without a block device.
    pub major: u32,
    /// The instance.
    pub minor: u32,
}

impl fmt::Display for DeviceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.major, self.minor)
    }
}

impl TryFrom<String> for DeviceId {
    type Error = FieldError;

    fn try_from(text: String) -> Result<Self, FieldError> {
        text.parse()
    }
}

impl From<DeviceId> for String {
    fn from(device: DeviceId) -> Self {
        device.to_string()
    }
}

/// How mounts and unmounts propagate to and from a mount, in findmnt's words.
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
pub enum MountPropagation {
    /// Neither sends nor receives.
    #[serde(rename = "private")]
    Private,
    /// Sends to its peers and their slaves, receives from its peers.
    #[serde(rename = "shared")]
    Shared,
    /// Receives from its master group.
    #[serde(rename = "slave")]
    Slave,
    /// Receives from its master group, and sends to and receives from its peers.
    #[serde(rename = "shared,slave")]
    SlaveAndShared,
    /// Private, and cannot be bind mounted.
    #[serde(rename = "unbindable")]
    Unbindable,
}

impl fmt::Display for MountPropagation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Private => "private",
            Self::Shared => "shared",
            Self::Slave => "slave",
            Self::SlaveAndShared => "shared,slave",
            Self::Unbindable => "unbindable",
        })
    }
}

/// One mount of a namespace.
///
/// [`Display`](fmt::Display) writes the mountinfo line, [`FromStr`](std::str::FromStr) reads one. The text fields
/// (`mount_options`, `fs_type`, `super_options`) are kept in mountinfo notation: an octal escape in
/// them stays one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MountEntry {
    /// Identifies the mount while it exists; reused afterwards.
    pub mount_id: u64,
    /// The mount that this one is mounted on. At the root of the view it is a mount out of view, or
    /// the mount itself.
    pub parent_id: u64,
    /// The superblock that is mounted.
    pub device: DeviceId,
    /// The directory of the filesystem that is shown at the mount point; not `/` for a bind mount of a
    /// subdirectory.
    pub root: MountPath,
    /// Whether the kernel has dropped that directory from its cache of names, which it marks with `//deleted`
    /// behind the root: it is deleted, or its filesystem is dead and was looked at. The mark does not belong to the
    /// path.
    #[serde(default, skip_serializing_if = "is_false")]
    pub root_deleted: bool,
    /// Path of the mount point, from the root directory of the process that this view belongs to.
    pub mount_point: MountPath,
    /// The options of this mount, such as `rw,relatime`.
    pub mount_options: String,
    /// The peer group, when the mount is shared. Group ids are kernel-wide and reused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<u64>,
    /// The peer group that this mount receives from, when it is a slave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<u64>,
    /// The nearest peer group above `master` with a mount in this view; given when `master` has
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagate_from: Option<u64>,
    /// Whether the mount refuses to be bind mounted.
    #[serde(default)]
    pub unbindable: bool,
    /// The filesystem, such as `ext4` or `fuse.sshfs`.
    pub fs_type: String,
    /// The source, as the filesystem calls it. Any text, and sometimes empty.
    pub source: MountPath,
    /// The options of the superblock, which all of its mounts have in common.
    pub super_options: String,
}

/// The mark that mountinfo puts behind a root without a name. No path has two slashes in a row.
pub(super) const DELETED: &str = "//deleted";

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Whether a filesystem of this type is served by a FUSE daemon.
pub fn is_fuse(fs_type: &str) -> bool {
    matches!(fs_type.split('.').next(), Some("fuse" | "fuseblk"))
}

/// Whether a program serves a filesystem of this type: a FUSE daemon, or a server that the kernel is the client of, as
/// for CIFS and NFS.
pub fn is_served(fs_type: &str) -> bool {
    is_fuse(fs_type) || matches!(fs_type, "cifs" | "smb3" | "nfs" | "nfs4")
}

impl MountEntry {
    /// How mounts propagate to and from this mount.
    pub fn propagation(&self) -> MountPropagation {
        match (self.shared, self.master) {
            (Some(_), Some(_)) => MountPropagation::SlaveAndShared,
            (Some(_), None) => MountPropagation::Shared,
            (None, Some(_)) => MountPropagation::Slave,
            (None, None) if self.unbindable => MountPropagation::Unbindable,
            (None, None) => MountPropagation::Private,
        }
    }

    /// Whether a FUSE daemon serves the files. False for `fusectl`, which is the kernel's own.
    pub fn is_fuse(&self) -> bool {
        is_fuse(&self.fs_type)
    }

    /// Whether a program serves it: a FUSE daemon, or a server that the kernel is the client of.
    pub fn is_served(&self) -> bool {
        is_served(&self.fs_type)
    }

    /// The directory of the filesystem at `path`, a path at or below the mount point. Other mounts that
    /// cover `path` are ignored.
    pub fn directory_of(&self, path: &MountPath) -> Option<MountPath> {
        path.strip_prefix(&self.mount_point).map(|below| self.root.join(&below))
    }

    /// Path of `directory`, a directory of the filesystem, through this mount; none when it is outside
    /// `root`.
    pub fn path_of(&self, directory: &MountPath) -> Option<MountPath> {
        directory.strip_prefix(&self.root).map(|below| self.mount_point.join(&below))
    }
}

/// Whether a field cannot hold the character as it is. Everything else stays: the kernel leaves a vertical tab in the
/// subtype of a FUSE mount, for example, and a reader of the line has to find it again.
fn ends_field(character: char) -> bool {
    matches!(character, ' ' | '\n')
}

impl fmt::Display for MountEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mount_id, parent_id, device, root, mount_point, .. } = self;
        let mark = if self.root_deleted { DELETED } else { "" };
        write!(formatter, "{mount_id} {parent_id} {device} {root}{mark} {mount_point} ")?;
        write_escaped(formatter, self.mount_options.as_bytes(), ends_field)?;
        let tags = [
            ("shared", self.shared),
            ("master", self.master),
            ("propagate_from", self.propagate_from),
        ];
        for (tag, group) in tags {
            if let Some(group) = group {
                write!(formatter, " {tag}:{group}")?;
            }
        }
        if self.unbindable {
            formatter.write_str(" unbindable")?;
        }
        formatter.write_str(" - ")?;
        write_escaped(formatter, self.fs_type.as_bytes(), ends_field)?;
        write!(formatter, " {} ", self.source)?;
        write_escaped(formatter, self.super_options.as_bytes(), |character| character == '\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: &str) -> MountEntry {
        line.parse().expect("a mountinfo line")
    }

    #[test]
    fn propagation_is_named_as_findmnt_does() {
        for (tags, name) in [
            ("", "private"),
            ("shared:1 ", "shared"),
            ("master:1 ", "slave"),
            ("shared:2 master:1 ", "shared,slave"),
            ("unbindable ", "unbindable"),
        ] {
            let propagation =
                entry(&format!("36 35 0:46 / /mnt rw {tags}- tmpfs t rw")).propagation();
            assert_eq!(propagation.to_string(), name);
            assert_eq!(serde_json::to_value(propagation).unwrap(), name);
        }
    }

    #[test]
    fn what_is_printed_is_read_the_same_again() {
        let line = "36 35 0:46 / /m\u{b}nt r\u{b}w\u{a0} - fuse.a\u{b}b s\u{b} rw\u{b}";
        assert_eq!(entry(&entry(line).to_string()), entry(line));
        let mut odd = entry("36 35 0:46 / /mnt rw - tmpfs t rw");
        odd.fs_type = "a b\nc".into();
        assert!(odd.to_string().ends_with(" a\\040b\\012c t rw"), "{odd}");
    }

    #[test]
    fn fuse_is_told_from_its_control_filesystem() {
        for (fs_type, expected) in [
            ("fuse", true),
            ("fuse.sshfs", true),
            ("fuseblk", true),
            ("fuseblk.ntfs", true),
            ("fusectl", false),
            ("ext4", false),
        ] {
            let entry = entry(&format!("36 35 0:46 / /mnt rw - {fs_type} x rw"));
            assert_eq!(entry.is_fuse(), expected, "{fs_type}");
        }
    }

    #[test]
    fn a_mount_of_a_server_is_served_and_no_fuse_mount() {
        for (fs_type, fuse, served) in [
            ("cifs", false, true),
            ("nfs4", false, true),
            ("nfs", false, true),
            ("fuse.rclone", true, true),
            ("nfsd", false, false),
            ("ext4", false, false),
        ] {
            let entry = entry(&format!("36 35 0:50 / /mnt rw shared:1 - {fs_type} source rw"));
            assert_eq!((entry.is_fuse(), entry.is_served()), (fuse, served), "{fs_type}");
        }
    }

    #[test]
    fn paths_translate_between_namespace_and_filesystem() {
        let entry = entry("36 35 0:46 /bridge /data rw - tmpfs t rw");
        let [inside, directory] = ["/data/dfs", "/bridge/dfs"].map(MountPath::from);
        assert_eq!(entry.directory_of(&inside), Some(directory.clone()));
        assert_eq!(entry.path_of(&directory), Some(inside));
        assert_eq!(entry.directory_of(&"/data".into()), Some("/bridge".into()));
        assert_eq!(entry.path_of(&"/bridge".into()), Some("/data".into()));
        assert_eq!(entry.path_of(&"/bridge2".into()), None);
    }

    #[test]
    fn text_that_would_break_the_line_is_escaped() {
        let mut entry = entry("36 35 0:46 / /mnt rw - tmpfs t rw");
        entry.mount_options = "rw x".into();
        entry.super_options = "rw a b\n1 2".into();
        assert_eq!(entry.to_string(), r"36 35 0:46 / /mnt rw\040x - tmpfs t rw a b\0121 2");
    }

    #[test]
    fn the_mark_of_a_deleted_root_is_no_part_of_its_path() {
        let line = "36 35 0:46 /sub//deleted /mnt rw - fuse.x src rw";
        let deleted = entry(line);
        assert_eq!((&deleted.root, deleted.root_deleted), (&"/sub".into(), true));
        assert_eq!(deleted.to_string(), line);
        assert_eq!(deleted.directory_of(&"/mnt/x".into()), Some("/sub/x".into()));
        let json = serde_json::to_value(&deleted).unwrap();
        assert_eq!((&json["root"], &json["root_deleted"]), (&"/sub".into(), &true.into()));
        // A name that only looks like the mark.
        let name = entry("36 35 0:46 /sub/deleted /mnt rw - fuse.x src rw");
        assert_eq!((&name.root, name.root_deleted), (&"/sub/deleted".into(), false));
    }

    #[test]
    fn json_is_flat_text_and_omits_absent_groups() {
        let entry = entry(r"36 35 0:46 / /my\040mnt rw master:7 - fuse.x src rw");
        let json = serde_json::json!({
            "mount_id": 36, "parent_id": 35, "device": "0:46", "root": "/",
            "mount_point": r"/my\040mnt", "mount_options": "rw", "master": 7, "unbindable": false,
            "fs_type": "fuse.x", "source": "src", "super_options": "rw",
        });
        assert_eq!(serde_json::to_value(&entry).unwrap(), json);
        assert_eq!(serde_json::from_value::<MountEntry>(json).unwrap(), entry);
    }

    #[test]
    fn the_schema_has_paths_and_devices_as_text() {
        let schema = schemars::schema_for!(MountEntry).to_value();
        for name in ["MountPath", "DeviceId"] {
            assert_eq!(schema["$defs"][name]["type"], "string", "{schema}");
        }
    }
}
