//! The probe: one look at a path that cannot hang, for liveness probes and for people.
#![allow(unsafe_code)] // numbers of descriptors in a forked child

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mountinfo::{MountEntry, MountPath};
use nix::errno::Errno;
use nix::unistd::Uid;
use propagation_model::confinement::FuseNeed;
use propagation_model::marker::{MARKER_FILE, Marker};
use serde::{Deserialize, Serialize};

use crate::child::within;
use crate::failure::errno_text;
use crate::mounts::{Proc, errno_of};
use crate::sys::{duplicate_onto, in_ms, now_ns};
use crate::turn::Turn;

/// What a probe found; its number is the exit code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// A mount that answers, with its sentinel file where one was named.
    Ok(String),
    /// The mount does not work: its daemon is gone (`ENOTCONN`) or answers with an error.
    Stale(String),
    /// No answer within the deadline.
    Hung(String),
    /// The mount answers and is empty, or its sentinel is missing.
    Empty(String),
    /// No mount at the path.
    NotMounted(String),
    /// The path cannot be looked at for another reason.
    Error(String),
}

impl Found {
    /// 0 ok, 10 stale, 11 hung, 12 empty, 13 not mounted, 1 other errors.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Ok(_) => 0,
            Self::Stale(_) => 10,
            Self::Hung(_) => 11,
            Self::Empty(_) => 12,
            Self::NotMounted(_) => 13,
            Self::Error(_) => 1,
        }
    }

    /// The word and what was found.
    pub fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Ok(text) => ("ok", text),
            Self::Stale(text) => ("stale", text),
            Self::Hung(text) => ("hung", text),
            Self::Empty(text) => ("empty", text),
            Self::NotMounted(text) => ("not mounted", text),
            Self::Error(text) => ("error", text),
        }
    }
}

/// Refuses anything but a name of a file directly in the mount: the sentinel would test another place.
///
/// # Errors
/// What is wrong with it.
pub fn check_sentinel(name: &str) -> Result<(), String> {
    match name {
        "" | "." | ".." => Err(format!("--sentinel {name:?} is not a file name")),
        _ if name.contains(['/', '\0']) => Err(format!(
            "--sentinel {name:?} is a path: write the name of a file right in the mount"
        )),
        _ => Ok(()),
    }
}

/// Looks at `path` within `timeout_ms`. `sentinel` names a file that must be in it; without, the
/// producer's marker or any other entry will do.
pub fn probe(path: &str, timeout_ms: u64, sentinel: Option<&str>) -> Found {
    let until = in_ms(timeout_ms);
    // Held by the child that looks, as long as it lives.
    let turn = match Turn::take(&key(path), until) {
        Ok(Some(turn)) => turn,
        Ok(None) => {
            return Found::Hung(format!(
                "an earlier look at {path} still hangs, {timeout_ms} ms were waited for it: its \
                 daemon is stopped, busy, or does not serve yet"
            ));
        }
        Err(errno) => return Found::Error(format!("take turns: {}", errno_text(errno))),
    };
    let looking = || {
        release_standard_streams();
        look_at(path, sentinel)
    };
    let left_ms = until.saturating_sub(now_ns()).div_ceil(1_000_000);
    let found = match within(left_ms, looking) {
        Ok(Some(found)) => found,
        Ok(None) => Found::Hung(format!(
            "no answer from {path} in {timeout_ms} ms: its daemon is stopped, busy, or does not \
             serve yet"
        )),
        Err(errno) => Found::Error(format!("start a child: {}", errno_text(errno))),
    };
    drop(turn);
    found
}

/// What looks take turns by: the mount, by its device; where none is mounted at the path, the path. The
/// path itself is not touched, which may hang.
fn key(path: &str) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let table = Proc::open().and_then(|proc| proc.mount_table()).ok();
    let mount = table.as_ref().and_then(|table| table.at(&MountPath::from(absolute.as_path())));
    match mount {
        Some(mount) => mount.device.to_string(),
        None => {
            let mut hasher = DefaultHasher::new();
            absolute.hash(&mut hasher);
            format!("{:016x}", hasher.finish())
        }
    }
}

/// A hanging child must not hold the pipes of the probe's reader.
fn release_standard_streams() {
    if let Ok(null) = fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        for number in 0..3 {
            // SAFETY: the standard streams go on with the other file, and nothing drops them.
            if let Ok(stream) = unsafe { duplicate_onto(null.as_fd(), number) } {
                std::mem::forget(stream);
            }
        }
    }
}

fn look_at(path: &str, sentinel: Option<&str>) -> Found {
    let table = Proc::open().and_then(|proc| proc.mount_table());
    let mounted = match &table {
        Ok(table) => {
            // Links are followed as every program follows them; a dead mount does not resolve.
            let absolute = fs::canonicalize(path)
                .or_else(|_| std::path::absolute(path))
                .unwrap_or_else(|_| path.into());
            let mount = table.at(&MountPath::from(absolute.as_path()));
            let kind = |mount: &MountEntry| match mount.is_fuse() {
                true => String::new(),
                false => format!("; this is no FUSE mount, its type is {}", mount.fs_type),
            };
            mount.map(|mount| (kind(mount), mount.to_string()))
        }
        Err(failure) => return Found::Error(format!("{}: {}", failure.operation, failure.reason)),
    };
    let Some((kind, mount)) = mounted else {
        return match fs::symlink_metadata(path) {
            // A mount above it may be the dead one.
            Err(error) if errno_of(&error) == Errno::ENOTCONN => Found::Stale(format!(
                "{path} lies in a dead mount: {}",
                errno_text(Errno::ENOTCONN)
            )),
            Ok(found) => Found::NotMounted(format!(
                "nothing is mounted at {path}{}: it lies on the filesystem around it",
                if found.is_file() { ", which is a file" } else { "" }
            )),
            Err(error) => Found::Error(format!(
                "{path} cannot be looked at: {}; is it the path in this container?",
                errno_text(errno_of(&error))
            )),
        };
    };
    let result = match sentinel {
        Some(name) => read_sentinel(&Path::new(path).join(name)),
        None => first_entry(Path::new(path)),
    };
    match result {
        Ok(Some(what)) => Found::Ok(format!("{path}: {what}{kind}")),
        Ok(None) => Found::Empty(format!("{path} is mounted and empty: {mount}")),
        Err(error) => {
            let errno = errno_of(&error);
            match errno {
                Errno::ENOENT => Found::Empty(format!("the sentinel is not in {path}: {mount}")),
                // Says nothing about the daemon: this user is kept out.
                Errno::EACCES | Errno::EPERM => {
                    let fix = match (denied_by_policy(errno), kind.is_empty()) {
                        (Some(words), true) => words,
                        (None, true) => "mount with allow_other, or probe as its owner".into(),
                        // smbd denies access to a FUSE mount whose daemon is dead.
                        (_, false) => "the server denies it; probe what it exports there".into(),
                    };
                    let (uid, words) = (Uid::effective(), errno_text(errno));
                    Found::Error(format!(
                        "{path} does not let uid {uid} in: {words}; {fix}: {mount}"
                    ))
                }
                Errno::ENOTCONN => Found::Stale(format!(
                    "the daemon behind {path} is gone: {}; restart this container once its \
                     producer serves again: {mount}",
                    errno_text(errno)
                )),
                errno => Found::Stale(format!(
                    "the daemon behind {path} answers with {}: {mount}",
                    errno_text(errno)
                )),
            }
        }
    }
}

/// What SELinux says of this process and files of FUSE mounts, if it is what keeps it out.
fn denied_by_policy(errno: Errno) -> Option<String> {
    let denied = crate::selinux::denied_here()?;
    if errno != Errno::EACCES || !denied.what.contains(&FuseNeed::Files) {
        return None;
    }
    let (words, command) = denied.fix_of_files();
    let fix = command.unwrap_or(words);
    Some(format!("SELinux denies the domain {} files of FUSE mounts; {fix}", denied.domain))
}

fn read_sentinel(path: &Path) -> std::io::Result<Option<String>> {
    let mut content = Vec::new();
    // A FIFO of this name would be waited for; what is no file is opened and never read.
    let nonblock = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(Errno::ENOENT.into());
    }
    file.take(4096).read_to_end(&mut content)?;
    Ok(Some(match Marker::parse(&content) {
        Some(marker) => format!("marker of generation {}", marker.generation),
        None => format!("{} bytes", content.len()),
    }))
}

fn first_entry(path: &Path) -> std::io::Result<Option<String>> {
    match read_sentinel(&path.join(MARKER_FILE)) {
        Ok(found) => return Ok(found),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    match fs::read_dir(path)?.next() {
        None => Ok(None),
        Some(entry) => Ok(Some(format!("has {:?}", entry?.file_name()))),
    }
}
