//! Containers made by an OCI runtime: runc, crun, or one by its path.
//!
//! ```text
//! child of the node                runtime                        program in the container
//!   |  the kubelet's and containerd's checks                         |
//!   |  bundle on the node's disk     |                               |
//!   |  --- create (descriptor 3) --> |  --- namespaces, mounts ----> |
//!   |  --- start ------------------> |  --- exec of the agent -----> |   waits on descriptor 3
//! the node                                                           |
//!   |  --- Told (what it is to do) --------------------------------> |   runs
//!   |  <-- events -------------------------------------------------- |
//! ```
//!
//! The runtime detaches from the container. The container's process becomes a child of process 1 of the node: it
//! is signalled, reaped and observed like one of the built-in engine.

mod bundle;
mod engine;
pub(super) mod inside;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;
use propagation_model::program::{RefusalKind, StartRefused};
use propagation_protocol::{Bind, ContainerSpec, Failure, NodeSetup};

pub(super) use engine::Engine;

use super::made::{Made, Process, refused};
use super::root::IMAGE;
use crate::failure::{errno_text, system};
use crate::mounts::{Proc, errno_of};
use crate::pipe::Pipe;
use crate::view::View;

/// The container's program: the agent, which is static.
pub(super) const PROGRAM: &str = "/propagation-agent";

/// Where bundles are on the node, one directory for each container.
const BUNDLES: &str = "/run/propagation/bundles";

/// Gets ready to make containers with the runtime of a node; none when the built-in engine does it.
pub(super) fn prepare(setup: &NodeSetup) -> Result<Option<Engine>, Failure> {
    let runtime = &setup.spec.runtime;
    if runtime.is_builtin() {
        return Ok(None);
    }
    let engine = Engine::open(runtime, &setup.run_id)?;
    let program = PathBuf::from(format!("{IMAGE}{PROGRAM}"));
    let copied = fs::copy("/proc/self/exe", &program)
        .and_then(|_| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)));
    copied
        .map_err(|error| system("copy the agent into the containers' image", errno_of(&error)))?;
    Ok(Some(engine))
}

/// A container that a runtime has made.
#[derive(Debug)]
pub(super) struct Handle {
    engine: Engine,
    bundle: PathBuf,
    id: String,
}

impl Handle {
    pub(super) fn new(engine: &Engine, id: u32) -> Self {
        let id = format!("{}-{id}", engine.prefix);
        Self { engine: engine.clone(), bundle: Path::new(BUNDLES).join(&id), id }
    }

    /// Makes the runtime forget the container after the end of its process. It is not waited for: whatever it
    /// leaves is on the node's own disk.
    pub(super) fn forget(&self) {
        let _ = self.engine.start(&self.bundle, &["delete", "--force", &self.id], None);
    }

    fn call(&self, words: &[&str], keep: Option<&Pipe>) -> Result<(), StartRefused> {
        let called = self.engine.call(&self.bundle, words, keep);
        called.map_err(StartRefused::said)
    }
}

/// Makes a container; its program waits for its role. The caller is in `base` before and after.
pub(super) fn create(
    spec: &ContainerSpec,
    volume: &Bind,
    rootfs: &Path,
    proc: &Proc,
    base: &View,
    engine: &Engine,
) -> Result<Made, StartRefused> {
    let handle = Handle::new(engine, spec.id);
    let capabilities = bundle::capabilities_of(spec)?;
    let config = bundle::config(spec, volume, rootfs, &bundle::devices()?, &capabilities);
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(&handle.bundle)?;
        fs::write(handle.bundle.join("config.json"), serde_json::to_vec_pretty(&config)?)
    };
    write().map_err(|error| refused("write the bundle", errno_of(&error)))?;
    let (ours, theirs) = Pipe::pair().map_err(|errno| refused("make a socket pair", errno))?;
    let bundle = handle.bundle.to_string_lossy();
    let pid_file = handle.bundle.join("pid");
    let pid_path = pid_file.to_string_lossy();
    // Keys are denied to nodes; old releases of crun end where newer ones go on without.
    let create = [
        "create",
        "--no-new-keyring",
        "--bundle",
        &bundle,
        "--pid-file",
        &pid_path,
        "--preserve-fds=1",
        &handle.id,
    ];
    handle.call(&create, Some(&theirs))?;
    drop(theirs);
    let made = handle.call(&["start", &handle.id], None).and_then(|()| {
        let pid = read_pid(&pid_file)?;
        let views = views(pid, spec.replicas, proc);
        base.enter_mounts()
            .map_err(|errno| refused("return to the runtime's mount namespace", errno))?;
        let views =
            views.map_err(|errno| refused("open the container's mount namespace", errno))?;
        Ok(Made { views, process: Some(Process { pid, pipe: ours }) })
    });
    if made.is_err() {
        // The refusal is what is reported.
        let _ = handle.call(&["delete", "--force", &handle.id], None);
    }
    made
}

fn read_pid(file: &Path) -> Result<Pid, StartRefused> {
    let unreadable = |why: String| {
        let text = format!("the runtime's pid file {}: {why}", file.display());
        StartRefused::of(RefusalKind::Other, text)
    };
    let text = fs::read_to_string(file).map_err(|e| unreadable(errno_text(errno_of(&e))))?;
    let number =
        text.trim().parse().map_err(|_| unreadable(format!("{text:?} is not a number")))?;
    Ok(Pid::from_raw(number))
}

/// The mount namespace of a container's process, and copies of it for the other replicas. The caller
/// may be in one of them afterwards.
fn views(pid: Pid, replicas: u32, proc: &Proc) -> Result<Vec<View>, Errno> {
    let mut views = vec![View { mount: proc.open_file(&format!("{pid}/ns/mnt"))?, user: None }];
    for _ in 1..replicas {
        // As with the built-in engine: a copy has the same propagation graph.
        views[0].enter_mounts()?;
        unshare(CloneFlags::CLONE_NEWNS)?;
        views.push(View::current(proc)?);
    }
    Ok(views)
}
