//! One look at the mount, as an ordinary program would access it. May block for ever: call it in a
//! child that can be given up.

use std::fs;
use std::path::{Path, PathBuf};

use mountinfo::{MountEntry, MountPath, MountTable};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Uid;
use propagation_model::marker::Marker;
use propagation_model::observation::{Access, MountView, Outcome};
use propagation_model::plan::User;
use propagation_protocol::{Look, Seen};

use crate::child::Child;
use crate::failure::{errno_name, reported};
use crate::liveness::dead_on_the_way;
use crate::mounts::{Proc, errno_of, through_link};
use crate::sys::now_ns;
use crate::user::become_user;

/// The longest marker that is read, in bytes.
const MARKER_BYTES: usize = 4096;

/// The most names that are read of a directory, which a daemon may let have no end.
const MOST_NAMES: usize = 100_000;

/// The most that are listed in a log.
const MOST_LISTED: usize = 1_000;

/// Where to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot<'a> {
    /// The directory.
    pub(crate) directory: &'a str,
    /// The file in it.
    pub(crate) file: &'a str,
    /// Where the mount that is looked for has its mount point.
    pub(crate) mount_point: &'a str,
    /// Directory of the filesystem that the marker must belong to; any if none.
    pub(crate) belongs_to: Option<&'a str>,
}

impl<'a> Spot<'a> {
    /// A file of a mount.
    pub(crate) fn in_mount(mountpoint: &'a str, file: &'a str) -> Self {
        Self { directory: mountpoint, file, mount_point: mountpoint, belongs_to: None }
    }

    /// Where a look is to be taken.
    pub(crate) fn of(look: &'a Look) -> Self {
        Self {
            directory: &look.directory,
            file: &look.file,
            mount_point: &look.mount_point,
            belongs_to: look.belongs_to.as_deref(),
        }
    }
}

/// Looks at a spot of the current namespace as a user, or as the user of the process. A marker that is not in
/// `expect` is `wrong_content`; without an expectation every complete marker is `ok`.
pub(crate) fn look(
    proc: &Proc,
    spot: Spot<'_>,
    access: Access,
    user: Option<&User>,
    expect: &[Marker],
) -> Seen {
    let uid = Uid::effective().as_raw();
    if let Some(user) = user.filter(|user| **user != User::plain(uid)) {
        return look_as(proc, spot, access, user, expect);
    }
    let started = now_ns();
    let table = proc.mount_table().ok();
    let is_dead =
        |path: &MountPath| table.as_ref().is_some_and(|table| dead_on_the_way(table, path));
    let mut path = MountPath::from(spot.mount_point);
    let mut dead = is_dead(&path);
    let real = table.as_ref().filter(|_| !dead).and_then(|table| without_link(table, spot));
    if let Some(real) = real {
        path = MountPath::from(real.as_path());
        dead = is_dead(&path);
    }
    let mount = table.as_ref().and_then(|table| table.at(&path).map(MountView::from));
    if dead {
        // What every access gives; it is not made, because it would detach what is mounted further in.
        let (at_ns, outcome) = (now_ns(), Outcome::errno(reported(Errno::ENOTCONN), "statfs"));
        return Seen { uid, at_ns, took_ns: at_ns - started, outcome, generation: None, mount };
    }
    let directory = Path::new(spot.directory);
    let (outcome, generation) = {
        let mount = mount.as_ref();
        match access {
            Access::Read | Access::Held => {
                let content = read(&directory.join(spot.file));
                judge(content, mount, (spot.belongs_to, expect), || names(directory))
            }
            Access::List => (judge_names(names(directory), spot.file, mount), None),
            Access::Stat => (judge_call("stat", stat(directory), mount), None),
            Access::Statfs => (judge_call("statfs", statfs(directory), mount), None),
            Access::Write => (judge_write(write(directory), mount), None),
        }
    };
    let at_ns = now_ns();
    Seen { uid, at_ns, took_ns: at_ns - started, outcome, generation, mount }
}

/// Where a mountpoint is whose directory is a symbolic link; none where it is not one. Mount tables have no links. No
/// daemon is asked.
fn without_link(table: &MountTable, spot: Spot<'_>) -> Option<PathBuf> {
    let path = Path::new(spot.mount_point);
    let (directory, name) = (path.parent()?, path.file_name()?);
    let served = table.covering(&MountPath::from(directory)).is_some_and(MountEntry::is_served);
    if served || table.at(&MountPath::from(path)).is_some() {
        return None;
    }
    through_link(directory, name)
}

/// The same as another user: in a process that is that user in every respect. FUSE compares the real, the
/// effective and the saved ids (`fuse_allow_current_process`), and the process cannot change back.
fn look_as(proc: &Proc, spot: Spot<'_>, access: Access, user: &User, expect: &[Marker]) -> Seen {
    let uid = user.uid;
    let skipped = |errno: Errno| {
        let reason = format!("cannot become uid {uid}: {}", errno_name(errno));
        let (outcome, generation, mount) = (Outcome::Skipped { reason }, None, None);
        Seen { uid, at_ns: now_ns(), took_ns: 0, outcome, generation, mount }
    };
    let looked = Child::start(|pipe| {
        let seen = match become_user(user) {
            Ok(()) => {
                // It goes with the process that waits for it, should the look hang. A change of the
                // effective id takes this back, so it comes after.
                let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
                look(proc, spot, access, None, expect)
            }
            Err(errno) => skipped(errno),
        };
        let _ = pipe.send(&seen);
    })
    .and_then(|mut child| {
        let seen = child.pipe.receive::<Seen>();
        let _ = nix::sys::wait::waitpid(child.pid, None);
        seen?.ok_or(Errno::ECHILD)
    });
    looked.unwrap_or_else(skipped)
}

/// What an access gave, or the call that failed.
pub(crate) type Answer<T> = Result<T, (&'static str, Errno)>;

/// Reads what there is of a marker, and no more than one can be.
pub(crate) fn read(path: &Path) -> Answer<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = open(path, flags, Mode::empty()).map_err(|errno| ("open", errno))?;
    let mut content = vec![0; MARKER_BYTES];
    let length = nix::unistd::read(&file, &mut content).map_err(|errno| ("read", errno))?;
    content.truncate(length);
    Ok(content)
}

fn names(directory: &Path) -> Answer<Vec<String>> {
    let entries = fs::read_dir(directory).map_err(|error| ("open", errno_of(&error)))?;
    let mut names = Vec::new();
    for entry in entries.take(MOST_NAMES) {
        let entry = entry.map_err(|error| ("readdir", errno_of(&error)))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

fn stat(directory: &Path) -> Answer<()> {
    fs::metadata(directory).map(drop).map_err(|error| ("stat", errno_of(&error)))
}

fn statfs(directory: &Path) -> Answer<()> {
    nix::sys::statfs::statfs(directory).map(drop).map_err(|errno| ("statfs", errno))
}

/// Makes a file, writes a line into it, and removes it again.
fn write(directory: &Path) -> Answer<()> {
    let path = directory.join(format!(".propagation-write-{}", std::process::id()));
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = open(&path, flags, Mode::from_bits_truncate(0o600)).map_err(|e| ("open", e))?;
    let written = nix::unistd::write(&file, b"written\n").map_err(|errno| ("write", errno));
    drop(file);
    // A file that cannot be removed says so at the next look: it is there already.
    let removed = nix::unistd::unlink(&path).map_err(|errno| ("unlink", errno));
    written?;
    removed
}

fn is_served(mount: Option<&MountView>) -> bool {
    mount.is_some_and(MountView::is_served)
}

/// A call on the directory that does not show its content: without a mount it is `absent`.
fn judge_call(call: &str, result: Answer<()>, mount: Option<&MountView>) -> Outcome {
    match result {
        Ok(()) if is_served(mount) => Outcome::Ok,
        Ok(()) | Err((_, Errno::ENOENT)) => Outcome::Absent,
        Err((_, errno)) => Outcome::errno(reported(errno), call),
    }
}

fn judge_write(result: Answer<()>, mount: Option<&MountView>) -> Outcome {
    match result {
        Ok(()) if is_served(mount) => Outcome::Ok,
        Ok(()) => Outcome::Lower,
        Err((_, Errno::ENOENT)) if !is_served(mount) => Outcome::Absent,
        Err((call, errno)) => Outcome::errno(reported(errno), call),
    }
}

fn judge_names(result: Answer<Vec<String>>, file: &str, mount: Option<&MountView>) -> Outcome {
    match result {
        Ok(names) if names.iter().any(|name| name == file) => Outcome::Ok,
        Ok(names) if is_served(mount) => without_marker(&names),
        Ok(_) | Err((_, Errno::ENOENT)) => Outcome::Absent,
        Err((call, errno)) => Outcome::errno(reported(errno), call),
    }
}

/// What a mount shows that has other names than the marker.
fn without_marker(names: &[String]) -> Outcome {
    match names.len() {
        0 => Outcome::Empty,
        count => Outcome::WrongContent {
            detail: format!("the mount lists {count} names, and not the marker"),
        },
    }
}

/// The outcome of a read; if a mount has no marker, `names` lists what is in it.
fn judge(
    access: Answer<Vec<u8>>,
    mount: Option<&MountView>,
    (belongs_to, expect): (Option<&str>, &[Marker]),
    names: impl FnOnce() -> Answer<Vec<String>>,
) -> (Outcome, Option<u64>) {
    let content = match access {
        Ok(content) => content,
        Err((_, Errno::ENOENT)) if is_served(mount) => {
            let outcome = match names() {
                Ok(names) => without_marker(&names),
                Err((call, errno)) => Outcome::WrongContent {
                    detail: format!(
                        "the marker is not in the mount, which cannot be listed: {} from {call}",
                        errno_name(errno)
                    ),
                },
            };
            return (outcome, None);
        }
        Err((_, Errno::ENOENT)) => return (Outcome::Absent, None),
        Err((call, errno)) => return (Outcome::errno(reported(errno), call), None),
    };
    judge_content(&content, belongs_to, expect)
}

/// Whether what was read is the marker that is expected, of the directory that it is to belong to.
pub(crate) fn judge_content(
    content: &[u8],
    belongs_to: Option<&str>,
    expect: &[Marker],
) -> (Outcome, Option<u64>) {
    let wrong = |detail: String| Outcome::WrongContent { detail };
    let Some(marker) = Marker::parse(content) else {
        return (wrong(format!("{} bytes that are not a marker", content.len())), None);
    };
    let generation = Some(marker.generation);
    let found = Marker::directory_of(content);
    if let Some(wanted) = belongs_to.filter(|wanted| *wanted != found) {
        return (wrong(format!("the marker of the directory {found}, not {wanted}")), generation);
    }
    match marker.differs_from(expect) {
        Some(detail) => (wrong(detail), generation),
        None => (Outcome::Ok, generation),
    }
}

/// Names and attributes of the files in a directory, as `ls -l` shows them; for the consumer's log.
pub(crate) fn listing(directory: &str) -> Vec<String> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return vec![format!("ls: {directory}: {error}")],
    };
    let mut lines: Vec<String> = entries
        .filter_map(Result::ok)
        .take(MOST_LISTED)
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.metadata() {
                Ok(metadata) => describe(&metadata, &name),
                Err(error) => format!("?????????? {name}: {error}"),
            }
        })
        .collect();
    lines.sort_by(|a, b| a.rsplit(' ').next().cmp(&b.rsplit(' ').next()));
    lines
}

fn describe(metadata: &fs::Metadata, name: &str) -> String {
    use std::os::unix::fs::MetadataExt;
    let kind = if metadata.is_dir() { 'd' } else { '-' };
    let mode = metadata.mode();
    let bits: String = (0..9)
        .rev()
        .zip("rwxrwxrwx".chars())
        .map(|(bit, letter)| if mode & (1 << bit) == 0 { '-' } else { letter })
        .collect();
    let (links, uid, gid) = (metadata.nlink(), metadata.uid(), metadata.gid());
    format!("{kind}{bits} {links} {uid} {gid} {} {name}", metadata.len())
}

#[cfg(test)]
mod tests {
    use propagation_model::Class;

    use super::*;

    fn marker(generation: u64, nonce: &str) -> Marker {
        Marker { started: "t".into(), generation, nonce: nonce.into() }
    }

    fn class(access: Answer<Vec<u8>>, mount: Option<&MountView>) -> Class {
        class_with(access, mount, &["other"])
    }

    fn class_with(access: Answer<Vec<u8>>, mount: Option<&MountView>, names: &[&str]) -> Class {
        let names = || Ok(names.iter().map(|&name| name.to_owned()).collect());
        judge(access, mount, (Some("/"), &[marker(2, "new")]), names).0.class()
    }

    #[test]
    fn only_the_nonce_of_the_generation_is_fresh() {
        assert_eq!(class(Ok(marker(2, "new").render().into_bytes()), None), Class::Ok);
        assert_eq!(class(Ok(marker(1, "old").render().into_bytes()), None), Class::WrongContent);
        assert_eq!(class(Ok(marker(2, "other").render().into_bytes()), None), Class::WrongContent);
        assert_eq!(class(Ok(Vec::new()), None), Class::WrongContent);
    }

    #[test]
    fn the_marker_of_another_directory_is_not_the_one_that_is_looked_for() {
        let content = marker(2, "new").render_in("/sub");
        let judge = |wanted| judge_content(content.as_bytes(), wanted, &[marker(2, "new")]).0;
        assert_eq!((judge(Some("/sub")), judge(None)), (Outcome::Ok, Outcome::Ok));
        let detail = "the marker of the directory /sub, not /".into();
        assert_eq!(judge(Some("/")), Outcome::WrongContent { detail });
    }

    #[test]
    fn a_missing_marker_in_a_fuse_mount_is_not_an_absent_mount() {
        let mount = MountView {
            device: "0:46".parse().expect("a device"),
            root: "/".into(),
            mount_point: "/mnt/dfs".into(),
            fs_type: FUSE.into(),
            shared: None,
            master: None,
        };
        const FUSE: &str = crate::fuse_mount::FS_TYPE;
        assert_eq!(class(Err(("open", Errno::ENOENT)), Some(&mount)), Class::WrongContent);
        assert_eq!(class_with(Err(("open", Errno::ENOENT)), Some(&mount), &[]), Class::Empty);
        assert_eq!(class(Err(("open", Errno::ENOENT)), None), Class::Absent);
        assert_eq!(
            class(Err(("open", Errno::ENOTCONN)), Some(&mount)),
            reported(Errno::ENOTCONN).into()
        );
    }
}
