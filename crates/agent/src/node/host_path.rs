//! The kubelet's check of a hostPath volume with a type, before the runtime looks at it, with the kubelet's
//! text (Kubernetes 1.36, `pkg/volume/hostpath`, `checkType`).

use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};

use nix::errno::Errno;
use propagation_model::plan::HostPathType;
use propagation_model::program::{RefusalKind, StartRefused};
use propagation_protocol::Bind;

use crate::failure::{go_errno_text, reported};
use crate::mounts::errno_of;

/// Checks the source of a volume that has a type, and makes it where the type says so.
///
/// For the kubelet a path that cannot be looked at does not exist. So a dead mount is "not there" for
/// `Directory`, and is left to the runtime by `DirectoryOrCreate`: mkdir(2) says that it exists.
pub(super) fn check(volume: &Bind) -> Result<(), StartRefused> {
    let Some(kind) = volume.how.kind else { return Ok(()) };
    let path = volume.source.as_str();
    let there = fs::metadata(path);
    let made = match (kind, &there) {
        (HostPathType::DirectoryOrCreate, Err(_)) => Some(make_directory(path)),
        (HostPathType::FileOrCreate, Err(_)) => Some(make_file(path)),
        _ => None,
    };
    let words = |text: String| format!("MountVolume.SetUp failed for volume \"volume\" : {text}");
    let refused =
        |text: String, errno: Errno| Err(StartRefused::with(reported(errno), words(text)));
    if let Some(made) = made {
        return made.or_else(|(operation, errno)| {
            refused(format!("{operation}: {}", go_errno_text(errno)), errno)
        });
    }
    let (wanted, fits): (_, fn(&fs::FileType) -> bool) = match kind {
        HostPathType::Directory | HostPathType::DirectoryOrCreate => {
            ("directory", fs::FileType::is_dir)
        }
        HostPathType::File | HostPathType::FileOrCreate => ("file", fs::FileType::is_file),
        HostPathType::Socket => ("socket file", |kind| kind.is_socket()),
        HostPathType::CharDevice => ("character device", |kind| kind.is_char_device()),
        HostPathType::BlockDevice => ("block device", |kind| kind.is_block_device()),
    };
    match there {
        Err(error) => refused(format!("hostPath {path} doesn't exist"), errno_of(&error)),
        Ok(metadata) if fits(&metadata.file_type()) => Ok(()),
        Ok(metadata) => {
            let found = name(metadata.file_type());
            let text =
                format!("hostPath type check failed: {path} is not a {wanted}, it's a {found}");
            Err(StartRefused::of(RefusalKind::WrongType, words(text)))
        }
    }
}

/// The Kubernetes name of a type of file.
fn name(kind: fs::FileType) -> &'static str {
    [
        (kind.is_dir(), "Directory"),
        (kind.is_socket(), "Socket"),
        (kind.is_char_device(), "CharDevice"),
        (kind.is_block_device(), "BlockDevice"),
    ]
    .into_iter()
    .find_map(|(is, name)| is.then_some(name))
    .unwrap_or("File")
}

type Made = Result<(), (String, Errno)>;

/// As the kubelet does: an existing directory is not an error.
fn make_directory(path: &str) -> Made {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|error| errno_of(&error)).or_else(|errno| match errno {
        Errno::EEXIST => Ok(()),
        errno => Err((format!("mkdir {path}"), errno)),
    })
}

fn make_file(path: &str) -> Made {
    let mut options = OpenOptions::new();
    let made = options.write(true).create(true).truncate(false).mode(0o644).open(path);
    made.map(drop).map_err(|error| (format!("open {path}"), errno_of(&error)))
}
