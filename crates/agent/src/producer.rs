//! The producer: writes a plain file into its volume, mounts the marker filesystem on a directory
//! of the volume and serves until it is told to end.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use fuser::{Config, Session, SessionACL};
use mountinfo::{MountEntry, MountPath};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Gid, Uid};
use propagation_model::marker::{Marker, PLAIN_FILE};
use propagation_model::plan::{FuseSpec, Stale};
use propagation_protocol::{ProgramCommand, ProgramEvent};

use crate::failure::{errno_and_fix, errno_text};
use crate::fuse_fs::{Behaviour, MarkerFilesystem};
use crate::fuse_mount::{FS_TYPE, Options, clear_dead, mount_fuse, unmount};
use crate::mounts::{Proc, errno_of, make_directory};
use crate::pipe::Pipe;
use crate::reporter::{Reporter, timestamp};
use crate::sys::now_ns;
use crate::take_over::{self, Taken};

/// What a producer is told.
#[derive(Debug, Clone)]
pub struct Producer {
    /// Where its volume is.
    pub volume: String,
    /// Where it mounts.
    pub mountpoint: String,
    /// What the mount calls its source.
    pub source: String,
    /// What it serves.
    pub marker: Marker,
    /// How.
    pub fuse: FuseSpec,
}

/// How serving came to its end.
enum End {
    /// SIGTERM, or an unmount by another process.
    Asked,
    /// The fault that lets a daemon end by itself.
    Fault,
}

impl Producer {
    /// Mounts and serves; returns the exit code: 0 after SIGTERM or an unmount by another process,
    /// 1 when it could not mount.
    pub fn run(&self, reporter: &Reporter) -> i32 {
        match self.serve(reporter) {
            Ok(End::Asked) => 0,
            Ok(End::Fault) => 1,
            Err(text) => {
                reporter.log(format!("[{}] ERROR: {text}", timestamp()));
                reporter.event(&ProgramEvent::Failed { text });
                1
            }
        }
    }

    fn serve(&self, reporter: &Reporter) -> Result<End, String> {
        let mountpoint = Path::new(&self.mountpoint);
        let signals = block_signals()?;
        // A mount that is dead makes every access below it fail: it goes first.
        let over_stale = self.handle_stale(mountpoint, reporter)?;
        // Where it mounts on its volume itself, the file would lie in the mount that is left.
        if !over_stale || self.volume != self.mountpoint {
            self.write_plain_file()?;
        }
        // What a dead mount lies on is a directory, and asking for it would fail.
        if !over_stale {
            make_directory(mountpoint)
                .map_err(|e| format!("make {}: {}", self.mountpoint, errno_text(e)))?;
        }
        let options = Options::of(&self.fuse, &self.source);
        let device = mount_fuse(mountpoint, &options)?;
        let mounted_at_ns = now_ns();
        if self.fuse.serve_after_ms > 0 && ended_within(&signals, self.fuse.serve_after_ms)? {
            return unmount(mountpoint).map(|()| End::Asked);
        }

        let behaviour = Arc::new(Behaviour::default());
        let filesystem = self.filesystem(&behaviour);
        let session = if self.fuse.keeper {
            let kept = take_over::keep(&device)?;
            let (session, init) = take_over::first(device, filesystem, self.acl())?;
            reporter.give(kept, &init);
            session
        } else {
            Session::from_fd(filesystem, device, self.acl(), Config::default())
                .map_err(|e| format!("answer FUSE_INIT: {e}"))?
        };
        self.go_on(session, &behaviour, signals, mounted_at_ns, reporter, || {})
    }

    /// Serves a connection that was kept; returns the exit code.
    pub(crate) fn take_over(&self, device: OwnedFd, init: &[u8], reporter: &Reporter) -> i32 {
        let serve = || {
            let signals = block_signals()?;
            let behaviour = Arc::new(Behaviour::default());
            let mut filesystem = self.filesystem(&behaviour);
            let taken = take_over::resend(&device)?;
            let taken = taken.map(|taken| {
                let (told, first) = mpsc::channel();
                filesystem.tell_first(told);
                (taken, first)
            });
            let session = take_over::successor(device, init, filesystem, self.acl())?;
            self.go_on(session, &behaviour, signals, now_ns(), reporter, || {
                if let Some((taken, first)) = taken {
                    self.give_up(&taken, &first, reporter);
                }
            })
        };
        match serve() {
            Ok(_) => 0,
            Err(text) => {
                reporter.event(&ProgramEvent::Failed { text });
                1
            }
        }
    }

    fn acl(&self) -> SessionACL {
        if self.fuse.allow_other { SessionACL::All } else { SessionACL::Owner }
    }

    fn filesystem(&self, behaviour: &Arc<Behaviour>) -> MarkerFilesystem {
        let owner = (Uid::effective().as_raw(), Gid::effective().as_raw());
        MarkerFilesystem::new(&self.marker, owner, Arc::clone(behaviour))
    }

    fn go_on(
        &self,
        session: Session<MarkerFilesystem>,
        behaviour: &Behaviour,
        signals: SignalFd,
        mounted_at_ns: u64,
        reporter: &Reporter,
        once_it_serves: impl FnOnce(),
    ) -> Result<End, String> {
        reporter.log(format!(
            "[{}] Mounted {} (generation {})",
            timestamp(),
            self.mountpoint,
            self.marker.generation
        ));
        reporter.event(&ProgramEvent::Mounted { at_ns: mounted_at_ns });
        let serving = thread::Builder::new()
            .name("fuse".into())
            .spawn(move || {
                let result = session.run();
                // Wakes the main thread: the mount has gone by somebody else's hand.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGUSR1);
                result
            })
            .map_err(|e| {
                format!(
                    "start the FUSE thread: {e}: raise the limit of processes (ulimit -u, pids.max)"
                )
            })?;
        once_it_serves();
        match wait(signals, behaviour, reporter)? {
            // Whoever still has a file open keeps the session alive; like every daemon this one
            // exits all the same, and the connection ends with it.
            Some(end) => unmount(Path::new(&self.mountpoint)).map(|()| end),
            None => match serving.join() {
                Ok(result) => result.map(|()| End::Asked).map_err(|error| not_served(&error)),
                Err(_) => Err("the FUSE thread panicked".into()),
            },
        }
    }

    /// Gives up requests that the dead daemon had taken, and says which.
    fn give_up(&self, taken: &Taken, first: &mpsc::Receiver<u64>, reporter: &Reporter) {
        /// How long a request to the daemon itself may take.
        const ANSWER: Duration = Duration::from_secs(1);
        let mountpoint = self.mountpoint.clone();
        // So that there is a request; whoever waits for it is not to be this thread.
        let asked = thread::Builder::new().spawn(move || std::fs::metadata(mountpoint).map(drop));
        let Some(first) = asked.ok().and_then(|_| first.recv_timeout(ANSWER).ok()) else { return };
        let lost = taken.give_up(first);
        let numbers = lost.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        reporter.log(format!(
            "[{}] {} requests of the dead daemon are lost and end with EIO: this kernel cannot send \
             them again (FUSE_NOTIFY_RESEND, Linux 6.9){}{numbers}",
            timestamp(),
            lost.len(),
            if lost.is_empty() { "" } else { ": " }
        ));
    }

    /// Writes the file that shows that the volume itself is shared.
    pub(crate) fn write_plain_file(&self) -> Result<(), String> {
        let path = Path::new(&self.volume).join(PLAIN_FILE);
        std::fs::write(&path, self.marker.render())
            .map_err(|e| format!("write {}: {}", path.display(), errno_text(errno_of(&e))))
    }

    /// Does with dead mounts of an earlier generation what it was told to do with them; returns whether
    /// mounts are left. Only mounts of this program's own type are touched.
    fn handle_stale(&self, mountpoint: &Path, reporter: &Reporter) -> Result<bool, String> {
        if self.fuse.stale == Stale::Fail {
            let looked = std::fs::metadata(mountpoint).map_err(|e| errno_of(&e));
            return match looked {
                Ok(_) | Err(Errno::ENOENT) => Ok(false),
                Err(errno) => Err(format!("stat {}: {}", self.mountpoint, errno_text(errno))),
            };
        }
        let proc = Proc::open().map_err(|f| format!("{}: {}", f.operation, f.reason))?;
        let own = |mount: &MountEntry| mount.fs_type == FS_TYPE;
        if self.fuse.stale == Stale::Unmount {
            let taken = clear_dead(&self.mountpoint, &proc, own)?;
            if taken > 0 {
                reporter.log(format!("[{}] Unmounted {taken} stale mount(s)", timestamp()));
            }
        }
        let table = proc.mount_table().map_err(|f| format!("{}: {}", f.operation, f.reason))?;
        let path = MountPath::from(self.mountpoint.as_str());
        let left = table.stack_at(&path).into_iter().filter(|mount| own(mount)).count();
        if left > 0 {
            reporter.log(format!("[{}] Mounting over {left} mount(s)", timestamp()));
        }
        Ok(left > 0)
    }
}

/// Blocks the signals that are waited for; this has to be done before the FUSE thread starts.
fn block_signals() -> Result<SignalFd, String> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGUSR1);
    signals.thread_block().map_err(|e| format!("block SIGTERM: {}", errno_text(e)))?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| format!("listen for SIGTERM: {}", errno_text(e)))
}

/// Waits for as long as the daemon is not to serve; returns whether it is to end before.
fn ended_within(signals: &SignalFd, ms: u64) -> Result<bool, String> {
    let mut descriptors = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
    let ended = poll(&mut descriptors, timeout);
    ended.map(|ready| ready > 0).map_err(|errno| format!("wait to serve: {}", errno_text(errno)))
}

/// Why the daemon serves no longer, and what to do about it.
fn not_served(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("serve: {}", errno_and_fix(Errno::from_raw(number))),
        None => format!("serve: {error}"),
    }
}

/// Waits until the daemon is to end, and obeys what the node says meanwhile; `None` when the session
/// has ended by itself.
fn wait(
    signals: SignalFd,
    behaviour: &Behaviour,
    reporter: &Reporter,
) -> Result<Option<End>, String> {
    let failed = |errno| format!("wait for the end: {}", errno_text(errno));
    let node = reporter.node().map(|pipe| pipe.as_fd().try_clone_to_owned());
    let mut commands = node.and_then(Result::ok).map(Pipe::new);
    loop {
        let ready = {
            let mut descriptors = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            descriptors
                .extend(commands.iter().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
            match poll(&mut descriptors, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(failed(errno)),
            }
            [0, 1].map(|n| descriptors.get(n).and_then(PollFd::any).unwrap_or(false))
        };
        if ready[0]
            && let Some(signal) = signals.read_signal().map_err(failed)?
        {
            let term = signal.ssi_signo == Signal::SIGTERM as u32;
            return Ok(term.then_some(End::Asked));
        }
        let Some(pipe) = commands.as_mut().filter(|_| ready[1]) else { continue };
        let open = pipe.fill(false).map_err(failed)?;
        while let Some(command) = pipe.next::<ProgramCommand>().map_err(failed)? {
            let evidence = match command {
                ProgramCommand::Exit => return Ok(Some(End::Fault)),
                ProgramCommand::Obey { fault } => behaviour
                    .obey(&fault)
                    .unwrap_or_else(|| format!("{fault} does not concern its answers")),
                ProgramCommand::UseMemory => use_memory(),
                ProgramCommand::Signal { .. } | ProgramCommand::StartDaemon { .. } => {
                    "this program is not a supervisor".to_owned()
                }
            };
            reporter.event(&ProgramEvent::Obeyed { evidence });
        }
        if !open {
            commands = None;
        }
    }
}

/// Uses memory until the kernel kills the process, or there is plainly no limit.
fn use_memory() -> String {
    const STEP_BYTES: usize = 1 << 20;
    const MOST_STEPS: usize = 256;
    let mut used = Vec::new();
    for step in 0..MOST_STEPS {
        // Every page is written, so that it counts.
        used.push(vec![u8::try_from(step % 251).unwrap_or(1) | 1; STEP_BYTES]);
    }
    format!("used {} MiB and was not killed", used.len())
}
