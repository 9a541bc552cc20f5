//! One look at the mount, as an ordinary program would access it. May block for ever: call it in a
//! child that can be given up.

use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Uid;
use propagation_core::marker::Marker;
use propagation_core::mountinfo::MountPath;
use propagation_core::observation::{MountView, Outcome};
use propagation_core::protocol::Seen;

use crate::failure::errno_name;
use crate::mounts::Proc;
use crate::sys::{become_effectively, now_ns};

/// The longest marker that is read, in bytes.
const MARKER_BYTES: usize = 4096;

/// Looks at `file` in `directory` of the current namespace as `uid`. With `expect` any other marker
/// is `wrong_content`; without, every whole marker is `ok`.
pub(crate) fn look(
    proc: &Proc,
    directory: &str,
    file: &str,
    uid: u32,
    expect: Option<&Marker>,
) -> Seen {
    let started = now_ns();
    let mount = proc
        .mount_table()
        .ok()
        .and_then(|table| table.at(&MountPath::from(directory)).map(MountView::from));
    let own = Uid::effective().as_raw();
    let switch = uid != own;
    let (outcome, generation) = if switch && let Err(errno) = become_effectively(uid, uid) {
        let reason = format!("cannot become uid {uid}: {}", errno_name(errno));
        (Outcome::Skipped { reason }, None)
    } else {
        judge(read(&Path::new(directory).join(file)), mount.as_ref(), expect)
    };
    if switch {
        // Coming back to the saved user needs no capability and cannot fail.
        let _ = become_effectively(own, own);
    }
    let at_ns = now_ns();
    Seen { uid, at_ns, took_ns: at_ns - started, outcome, generation, mount }
}

/// What reading a file gave: its content, or the call that failed.
type Access = Result<Vec<u8>, (&'static str, Errno)>;

fn read(path: &Path) -> Access {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = open(path, flags, Mode::empty()).map_err(|errno| ("open", errno))?;
    let mut content = vec![0; MARKER_BYTES];
    let length = nix::unistd::read(&file, &mut content).map_err(|errno| ("read", errno))?;
    content.truncate(length);
    Ok(content)
}

fn judge(
    access: Access,
    mount: Option<&MountView>,
    expect: Option<&Marker>,
) -> (Outcome, Option<u64>) {
    let wrong = |detail: String| Outcome::WrongContent { detail };
    let fuse = mount.is_some_and(|mount| mount.fs_type.starts_with("fuse"));
    let content = match access {
        Ok(content) => content,
        Err((_, Errno::ENOENT)) if fuse => {
            return (wrong("the mount is there and the marker is not in it".into()), None);
        }
        Err((_, Errno::ENOENT)) => return (Outcome::Absent, None),
        Err((call, errno)) => return (Outcome::errno(errno_name(errno), call), None),
    };
    let Some(marker) = Marker::parse(&content) else {
        return (wrong(format!("{} bytes that are not a marker", content.len())), None);
    };
    let generation = Some(marker.generation);
    match expect {
        Some(expected) if marker.nonce != expected.nonce => {
            let detail = if marker.generation == expected.generation {
                "the nonce of another run".into()
            } else {
                format!(
                    "the marker of generation {}, not {}",
                    marker.generation, expected.generation
                )
            };
            (wrong(detail), generation)
        }
        _ => (Outcome::Ok, generation),
    }
}

/// Names and attributes of the files in a directory, as `ls -l` shows them; for the consumer's log.
pub(crate) fn listing(directory: &str) -> Vec<String> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return vec![format!("ls: {directory}: {error}")],
    };
    let mut lines: Vec<String> = entries
        .filter_map(Result::ok)
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

fn describe(metadata: &std::fs::Metadata, name: &str) -> String {
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
    use super::*;

    fn marker(generation: u64, nonce: &str) -> Marker {
        Marker { started: "t".into(), generation, nonce: nonce.into() }
    }

    fn class(access: Access, mount: Option<&MountView>) -> String {
        judge(access, mount, Some(&marker(2, "new"))).0.class().to_owned()
    }

    #[test]
    fn only_the_nonce_of_the_generation_is_fresh() {
        assert_eq!(class(Ok(marker(2, "new").render().into_bytes()), None), "ok");
        assert_eq!(class(Ok(marker(1, "old").render().into_bytes()), None), "wrong_content");
        assert_eq!(class(Ok(marker(2, "other").render().into_bytes()), None), "wrong_content");
        assert_eq!(class(Ok(Vec::new()), None), "wrong_content");
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
        assert_eq!(class(Err(("open", Errno::ENOENT)), Some(&mount)), "wrong_content");
        assert_eq!(class(Err(("open", Errno::ENOENT)), None), "absent");
        assert_eq!(class(Err(("open", Errno::ENOTCONN)), Some(&mount)), "ENOTCONN");
    }
}
