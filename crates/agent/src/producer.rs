//! The producer: writes a plain file into its volume, mounts the marker filesystem on a directory
//! of it, serves until it is told to end.

use std::path::Path;
use std::thread;

use fuser::{Config, Session, SessionACL};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Uid};
use propagation_core::marker::{Marker, PLAIN_FILE};
use propagation_core::mountinfo::MountPath;
use propagation_core::protocol::ProgramEvent;

use crate::failure::errno_text;
use crate::fuse_fs::MarkerFilesystem;
use crate::fuse_mount::{FS_TYPE, mount_fuse, unmount};
use crate::mounts::{Proc, errno_of, make_directory};
use crate::reporter::{Reporter, timestamp};
use crate::sys::now_ns;

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
    /// Whether the mount lets other users in.
    pub allow_other: bool,
}

impl Producer {
    /// Mounts and serves; returns the exit code: 0 after SIGTERM or when somebody else unmounted,
    /// 1 when it could not mount.
    pub fn run(&self, reporter: &Reporter) -> i32 {
        match self.serve(reporter) {
            Ok(()) => 0,
            Err(text) => {
                reporter.log(format!("[{}] ERROR: {text}", timestamp()));
                reporter.event(&ProgramEvent::Failed { text });
                1
            }
        }
    }

    fn serve(&self, reporter: &Reporter) -> Result<(), String> {
        let mountpoint = Path::new(&self.mountpoint);
        // SIGTERM is waited for; it has to be blocked before the FUSE thread starts.
        let mut term = SigSet::empty();
        term.add(Signal::SIGTERM);
        term.add(Signal::SIGUSR1);
        term.thread_block().map_err(|e| format!("block SIGTERM: {}", errno_text(e)))?;

        self.write_plain_file()?;
        let cleared = self.clear_stale(mountpoint)?;
        if cleared > 0 {
            reporter.log(format!("[{}] Unmounted {cleared} stale mount(s)", timestamp()));
        }
        make_directory(mountpoint)
            .map_err(|e| format!("make {}: {}", self.mountpoint, errno_text(e)))?;
        let device = mount_fuse(mountpoint, &self.source, self.allow_other)?;
        let mounted_at_ns = now_ns();

        let owner = (Uid::effective().as_raw(), Gid::effective().as_raw());
        let filesystem = MarkerFilesystem::new(self.marker.render(), owner);
        let acl = if self.allow_other { SessionACL::All } else { SessionACL::Owner };
        let session = Session::from_fd(filesystem, device, acl, Config::default())
            .map_err(|e| format!("answer FUSE_INIT: {e}"))?;
        reporter.log(format!(
            "[{}] Mounted {} (generation {})",
            timestamp(),
            self.mountpoint,
            self.marker.generation
        ));
        reporter.event(&ProgramEvent::Mounted { at_ns: mounted_at_ns });
        self.serve_until_term(session, &term, mountpoint)
    }

    /// Runs the session in a thread of its own and waits for SIGTERM, or for the session to end.
    fn serve_until_term(
        &self,
        session: Session<MarkerFilesystem>,
        term: &SigSet,
        mountpoint: &Path,
    ) -> Result<(), String> {
        let serving = thread::Builder::new()
            .name("fuse".into())
            .spawn(move || {
                let result = session.run();
                // Wakes the main thread: the mount has gone by somebody else's hand.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGUSR1);
                result
            })
            .map_err(|e| format!("start the FUSE thread: {e}"))?;
        if term.wait() == Ok(Signal::SIGTERM) {
            // Whoever still has a file open keeps the session alive; like every daemon this one
            // exits all the same, and the connection ends with it.
            return unmount(mountpoint);
        }
        match serving.join() {
            Ok(result) => result.map_err(|e| format!("serve: {e}")),
            Err(_) => Err("the FUSE thread panicked".into()),
        }
    }

    fn write_plain_file(&self) -> Result<(), String> {
        let path = Path::new(&self.volume).join(PLAIN_FILE);
        std::fs::write(&path, self.marker.render())
            .map_err(|e| format!("write {}: {}", path.display(), errno_text(errno_of(&e))))
    }

    /// Takes dead mounts of an earlier generation off the mountpoint; returns how many. Only mounts
    /// of this program's own type are touched.
    fn clear_stale(&self, mountpoint: &Path) -> Result<usize, String> {
        let proc = Proc::open().map_err(|f| format!("{}: {}", f.operation, f.reason))?;
        let table = proc.mount_table().map_err(|f| format!("{}: {}", f.operation, f.reason))?;
        let path = MountPath::from(self.mountpoint.as_str());
        let stale = table.stack_at(&path).iter().filter(|m| m.fs_type == FS_TYPE).count();
        for _ in 0..stale {
            unmount(mountpoint)?;
        }
        Ok(stale)
    }
}
