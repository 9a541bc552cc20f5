//! Mount namespaces on the real kernel, held by descriptors and entered in turn.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Uid;
use propagation_core::mountinfo::{MountPath, MountTable};

use crate::operation::{Directory, Kind, Operation};

/// The word with which the program starts itself as the maker of a user namespace.
pub(crate) const INSIDE: &str = "--inside";

/// What the new mount calls its source.
pub(crate) const NEW: &str = "new-mount";

/// Most namespaces that a world has.
const NAMESPACES: usize = 6;

const NOTHING: Option<&str> = None;

/// The namespace that all worlds are copies of.
pub(crate) struct Machine {
    namespace: File,
}

impl Machine {
    /// Moves the process into a mount namespace of its own, in which nothing is shared and little is
    /// mounted.
    pub(crate) fn enter() -> Result<Self, String> {
        if !Uid::effective().is_root() {
            return Err("only root can enter mount namespaces of other users".into());
        }
        let step = |what: &'static str| move |errno: Errno| format!("{what}: {}", errno.desc());
        unshare(CloneFlags::CLONE_NEWNS).map_err(step("make a mount namespace"))?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(NOTHING, "/", NOTHING, private, NOTHING).map_err(step("make / private"))?;
        // Short tables are quick tables.
        for unused in ["/sys", "/dev", "/run", "/tmp"] {
            let _ = umount2(unused, MntFlags::MNT_DETACH);
        }
        Ok(Self { namespace: current()? })
    }
}

fn current() -> Result<File, String> {
    File::open("/proc/thread-self/ns/mnt").map_err(|error| format!("open the namespace: {error}"))
}

fn go_to(namespace: &File) -> Result<(), String> {
    setns(namespace, CloneFlags::CLONE_NEWNS)
        .map_err(|errno| format!("enter a namespace: {}", errno.desc()))
}

/// One experiment's namespaces. They go with the descriptors.
pub(crate) struct World {
    namespaces: Vec<File>,
}

impl World {
    /// One namespace with a filesystem at /mnt, shared as on a node.
    pub(crate) fn new(machine: &Machine) -> Result<Self, String> {
        go_to(&machine.namespace)?;
        unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| errno.desc().to_owned())?;
        filesystem("/mnt", "base").map_err(|errno| format!("mount the base: {}", errno.desc()))?;
        mount(NOTHING, "/mnt", NOTHING, MsFlags::MS_SHARED, NOTHING)
            .map_err(|errno| format!("share the base: {}", errno.desc()))?;
        Ok(Self { namespaces: vec![current()?] })
    }

    fn enter(&self, namespace: usize) -> Result<(), String> {
        go_to(&self.namespaces[namespace % self.namespaces.len()])
    }

    /// Does one operation. What the kernel refuses is not done.
    pub(crate) fn apply(&mut self, operation: &Operation) -> Result<(), String> {
        match *operation {
            Operation::Bind { namespace, from, to, recursive } => {
                self.enter(namespace)?;
                let flags = MsFlags::MS_BIND | recursively(recursive);
                let _ = mount(Some(from.path()), to.path(), NOTHING, flags, NOTHING);
            }
            Operation::Propagate { namespace, at, kind, recursive } => {
                self.enter(namespace)?;
                let flags = recursively(recursive)
                    | match kind {
                        Kind::Shared => MsFlags::MS_SHARED,
                        Kind::Slave => MsFlags::MS_SLAVE,
                        Kind::Private => MsFlags::MS_PRIVATE,
                        Kind::Unbindable => MsFlags::MS_UNBINDABLE,
                    };
                let _ = mount(NOTHING, at.path(), NOTHING, flags, NOTHING);
            }
            Operation::Filesystem { namespace, at } => {
                self.enter(namespace)?;
                let _ = filesystem(at.path(), "another");
            }
            Operation::Unmount { namespace, at } => {
                self.enter(namespace)?;
                let _ = umount2(at.path(), MntFlags::MNT_DETACH);
            }
            Operation::Move { namespace, from, to } => {
                self.enter(namespace)?;
                let _ = mount(Some(from.path()), to.path(), NOTHING, MsFlags::MS_MOVE, NOTHING);
            }
            Operation::Clone { .. } if self.namespaces.len() == NAMESPACES => {}
            Operation::Clone { namespace, user } => {
                self.enter(namespace)?;
                let copy = if user { copy_for_another_user()? } else { copy()? };
                self.namespaces.push(copy);
            }
        }
        Ok(())
    }

    /// The mount tables of all namespaces.
    pub(crate) fn tables(&self) -> Result<Vec<MountTable>, String> {
        let table = |namespace: &File| {
            go_to(namespace)?;
            let bytes = fs::read("/proc/thread-self/mountinfo")
                .map_err(|error| format!("read mountinfo: {error}"))?;
            MountTable::parse(&bytes).map_err(|error| error.to_string())
        };
        self.namespaces.iter().map(table).collect()
    }

    /// Makes the mount that is asked about; whether the kernel let it.
    pub(crate) fn mount(&self, namespace: usize, at: Directory) -> Result<bool, String> {
        self.enter(namespace)?;
        Ok(mount(Some(NEW), at.path(), Some("tmpfs"), MsFlags::empty(), NOTHING).is_ok())
    }

    /// Those of `paths` at which the namespace reaches the new mount, sorted.
    pub(crate) fn reached(
        &self,
        namespace: usize,
        mut paths: Vec<MountPath>,
    ) -> Result<Vec<MountPath>, String> {
        let tables = self.tables()?;
        let new = tables.iter().flatten().find(|mount| mount.source == MountPath::from(NEW));
        let Some(new) = new else { return Ok(Vec::new()) };
        self.enter(namespace)?;
        let device = nix::sys::stat::makedev(new.device.major.into(), new.device.minor.into());
        paths.retain(|path| fs::metadata(path.to_path_buf()).is_ok_and(|at| at.dev() == device));
        paths.sort_unstable();
        paths.dedup();
        Ok(paths)
    }
}

fn recursively(recursive: bool) -> MsFlags {
    if recursive { MsFlags::MS_REC } else { MsFlags::empty() }
}

/// A filesystem with all directories that the mount point has below it.
fn filesystem(at: &str, source: &str) -> Result<(), Errno> {
    mount(Some(source), at, Some("tmpfs"), MsFlags::empty(), NOTHING)?;
    for path in Directory::all().filter(|path| path.starts_with(at)) {
        // Another mount may have come under the path meanwhile; then the directory is there.
        let _ = fs::create_dir_all(path);
    }
    Ok(())
}

/// A copy of the current namespace.
fn copy() -> Result<File, String> {
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|errno| format!("copy a namespace: {}", errno.desc()))?;
    current()
}

/// A copy of the current namespace that belongs to a user namespace of its own. A process makes it:
/// nobody comes back from there.
fn copy_for_another_user() -> Result<File, String> {
    let failed = |error: std::io::Error| format!("make a user namespace: {error}");
    let mut child = Command::new("/proc/self/exe")
        .arg(INSIDE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut ready = [0];
    let said = child.stdout.take().map(|mut out| out.read_exact(&mut ready));
    let namespace = File::open(format!("/proc/{}/ns/mnt", child.id())).map_err(failed);
    drop(child.stdin.take());
    let status = child.wait().map_err(failed)?;
    match said {
        Some(Ok(())) if status.success() => namespace,
        _ => Err(format!("make a user namespace: the helper ended with {status}")),
    }
}

/// The helper: makes the namespaces, says so, and waits to be told that it may go.
pub(crate) fn inside() -> ExitCode {
    use std::io::Write;
    if unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).is_err() {
        return ExitCode::FAILURE;
    }
    let said = std::io::stdout().write_all(b"x").and_then(|()| std::io::stdout().flush());
    let waited = std::io::stdin().read_to_end(&mut Vec::new());
    if said.is_ok() && waited.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
