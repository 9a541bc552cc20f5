//! Making the FUSE mount: by mount(2) as root, through fusermount3 otherwise.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use mountinfo::{MountEntry, MountPath};
use nix::mount::{MsFlags, mount};
use nix::unistd::{Gid, Uid};
use propagation_model::plan::FuseSpec;

use crate::child::within;
use crate::failure::errno_text;
use crate::liveness::is_dead;
use crate::mounts::{Proc, errno_of, unmount_lazily};
use crate::pipe::Pipe;

/// The filesystem type of the producer's mounts, as mountinfo shows it.
pub(crate) const FS_TYPE: &str = "fuse.propagation";

/// Where fusermount3 is looked for.
pub(crate) const FUSERMOUNT3: [&str; 4] =
    ["/usr/bin/fusermount3", "/bin/fusermount3", "/usr/local/bin/fusermount3", "/sbin/fusermount3"];

/// How to mount.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What the mount calls its source.
    source: String,
    allow_other: bool,
    read_only: bool,
    /// More of them, in the words of mount(8).
    more: Vec<String>,
}

impl Options {
    /// As a plan says.
    pub(crate) fn of(fuse: &FuseSpec, source: &str) -> Self {
        let (allow_other, read_only) = (fuse.allow_other, fuse.read_only);
        Self { source: source.to_owned(), allow_other, read_only, more: fuse.options.clone() }
    }
}

/// Mounts at `path` and returns the descriptor on which the kernel sends requests.
///
/// # Errors
/// In words, naming the call or the helper and what it said.
pub(crate) fn mount_fuse(path: &Path, options: &Options) -> Result<OwnedFd, String> {
    if Uid::effective().is_root() {
        mount_directly(path, options)
    } else {
        mount_through_helper(path, options)
    }
}

/// Options that are flags of mount(2), and whether they set theirs; the others are the filesystem's.
const FLAGS: [(&str, MsFlags, bool); 10] = [
    ("nosuid", MsFlags::MS_NOSUID, true),
    ("suid", MsFlags::MS_NOSUID, false),
    ("nodev", MsFlags::MS_NODEV, true),
    ("dev", MsFlags::MS_NODEV, false),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("sync", MsFlags::MS_SYNCHRONOUS, true),
    ("ro", MsFlags::MS_RDONLY, true),
    ("rw", MsFlags::MS_RDONLY, false),
];

fn mount_directly(path: &Path, how: &Options) -> Result<OwnedFd, String> {
    let device = open_device()?;
    let mut options = format!(
        "fd={},rootmode=40000,user_id={},group_id={}",
        device.as_raw_fd(),
        Uid::effective(),
        Gid::effective()
    );
    if how.allow_other {
        options.push_str(",allow_other");
    }
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, how.read_only);
    for option in &how.more {
        match FLAGS.iter().find(|(word, ..)| word == option) {
            Some((_, flag, on)) => flags.set(*flag, *on),
            None => {
                options.push(',');
                options.push_str(option);
            }
        }
    }
    mount(Some(how.source.as_str()), path, Some(FS_TYPE), flags, Some(options.as_str())).map_err(
        |errno| format!("mount(2) of {FS_TYPE} on {}: {}", path.display(), errno_text(errno)),
    )?;
    Ok(device)
}

fn open_device() -> Result<OwnedFd, String> {
    let opened = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    opened.map(Into::into).map_err(|e| format!("open /dev/fuse: {}", errno_text(errno_of(&e))))
}

/// fusermount3 opens the device, mounts, and passes the descriptor over the socket that it finds in
/// `_FUSE_COMMFD`.
fn mount_through_helper(path: &Path, how: &Options) -> Result<OwnedFd, String> {
    let helper = FUSERMOUNT3
        .iter()
        .find(|helper| Path::new(helper).exists())
        .ok_or("run fusermount3: No such file or directory (ENOENT)")?;
    let (mut ours, theirs) = Pipe::pair().map_err(errno_text)?;
    let mut options = format!("nosuid,nodev,fsname={},subtype=propagation", how.source);
    if how.read_only {
        options.push_str(",ro");
    }
    if how.allow_other {
        options.push_str(",allow_other");
    }
    for option in &how.more {
        options.push(',');
        options.push_str(option);
    }
    let socket = theirs.as_fd().try_clone_to_owned().map_err(|e| e.to_string())?;
    // The child finds the socket as its standard input: a number that exec keeps.
    let mut child = Command::new(helper)
        .args(["-o", &options, "--"])
        .arg(path)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("run {helper}: {}", errno_text(errno_of(&e))))?;
    drop(theirs);
    while ours.fill(true).map_err(errno_text)? {
        if let Some(device) = ours.take_descriptor() {
            let status = child.wait().map_err(|e| e.to_string())?;
            return if status.success() {
                Ok(device)
            } else {
                Err(format!("{helper} mounted and then exited with {status}"))
            };
        }
    }
    let mut words = String::new();
    if let Some(stderr) = child.stderr.take() {
        // What the helper says is worth having even in part.
        let _ = File::from(OwnedFd::from(stderr)).take(4096).read_to_string(&mut words);
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    let words = words.trim();
    Err(if words.is_empty() {
        format!("{helper} exited with {status} and said nothing")
    } else {
        words.to_owned()
    })
}

/// Takes dead mounts of types that `fits` off a mountpoint, from the top down to the first that lives, and
/// returns how many there were. One that does not say in time whether it lives has a daemon.
///
/// # Errors
/// In words, when one cannot be taken off.
pub(crate) fn clear_dead(
    path: &str,
    proc: &Proc,
    fits: impl Fn(&MountEntry) -> bool,
) -> Result<usize, String> {
    /// How long a living daemon may take to say so, in milliseconds.
    const ANSWER_MS: u64 = 1_000;
    let mountpoint = Path::new(path);
    let mut taken = 0;
    loop {
        let table = proc.mount_table().map_err(|f| format!("{}: {}", f.operation, f.reason))?;
        if !table.at(&MountPath::from(path)).is_some_and(&fits) {
            return Ok(taken);
        }
        let dead = within(ANSWER_MS, || is_dead(mountpoint));
        if !dead.map_err(|errno| format!("look at {path}: {}", errno_text(errno)))?.unwrap_or(false)
        {
            return Ok(taken);
        }
        unmount(mountpoint)?;
        taken += 1;
    }
}

/// Takes the topmost mount off `path`, lazily: others may have files open in it, and it may be dead.
pub(crate) fn unmount(path: &Path) -> Result<(), String> {
    if Uid::effective().is_root() {
        return unmount_lazily(path)
            .map_err(|errno| format!("unmount {}: {}", path.display(), errno_text(errno)));
    }
    let helper = FUSERMOUNT3
        .iter()
        .find(|helper| Path::new(helper).exists())
        .ok_or("run fusermount3: No such file or directory (ENOENT)")?;
    let status = Command::new(helper)
        .args(["-u", "-z", "--"])
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .map_err(|e| format!("run {helper}: {}", errno_text(errno_of(&e))))?;
    if status.success() { Ok(()) } else { Err(format!("{helper} -u exited with {status}")) }
}
