//! Process 1 of a producer's container when the daemon is another process: any FUSE program, or the built-in
//! filesystem under a supervisor that outlives it.
//!
//! It never touches the mount: children do what may hang. It obeys the node's commands, reports the state of the
//! daemon, and forwards what the daemon says.

mod daemon;
mod external;
mod mount;
mod served;
mod told;

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use propagation_model::program::ProgramState;
use propagation_protocol::{ProgramCommand, ProgramEvent};

use crate::child::timeout;
use crate::failure::errno_text;
use crate::mounts::Proc;
use crate::pipe::Pipe;
use crate::reporter::{Reporter, timestamp};
use crate::sys::{in_ms, now_ns};
use daemon::{Daemon, any_child};
use served::Served;

pub(crate) use told::Supervisor;

/// How long the daemon may take to end after SIGKILL, in milliseconds.
const KILLED_WITHIN_MS: u64 = 2_000;

struct Supervising<'a> {
    told: Supervisor,
    reporter: &'a Reporter,
    proc: Proc,
    /// Becomes ready when the mount table changes.
    mounts: OwnedFd,
    signals: SignalFd,
    commands: Option<Pipe>,
    daemon: Option<Daemon>,
    /// The programs of a transport, of which the daemon is the one that faults hit.
    served: Option<Served>,
    /// SIGTERM has been passed on: the end of the daemon is the end.
    ending: bool,
}

impl Supervisor {
    /// Supervises until the daemon ends (or, for one that outlives it, until SIGTERM); returns the
    /// exit code.
    pub(crate) fn run(self, reporter: &Reporter) -> i32 {
        match Supervising::begin(self, reporter).and_then(Supervising::go_on) {
            Ok(code) => code,
            Err(text) => {
                reporter.log(format!("[{}] ERROR: {text}", timestamp()));
                reporter.event(&ProgramEvent::Failed { text });
                1
            }
        }
    }
}

impl<'a> Supervising<'a> {
    fn begin(told: Supervisor, reporter: &'a Reporter) -> Result<Self, String> {
        let failed = |errno| format!("supervise: {}", errno_text(errno));
        let proc = Proc::open().map_err(|f| format!("{}: {}", f.operation, f.reason))?;
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTERM);
        signals.add(Signal::SIGCHLD);
        signals.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&signals, flags).map_err(failed)?;
        let mounts = proc.of_thread("mountinfo").map_err(failed)?;
        let node = reporter.node().map(|pipe| pipe.as_fd().try_clone_to_owned());
        let commands = node.and_then(Result::ok).map(Pipe::new);
        let served = Served::of(&told);
        let (daemon, ending) = (None, false);
        let mut supervising =
            Self { told, reporter, proc, mounts, signals, commands, daemon, served, ending };
        supervising.start()?;
        Ok(supervising)
    }

    /// Starts the daemon, the first time or again.
    fn start(&mut self) -> Result<(), String> {
        let producer = &self.told.producer;
        if let Some(served) = &mut self.served {
            self.daemon = Some(served.start(&self.told, &self.proc, self.reporter)?);
            return Ok(());
        }
        let before = mount::served_mounts(producer, &self.proc)?
            .iter()
            .map(|mount| mount.mount_id)
            .collect();
        let mut daemon = if producer.fuse.is_builtin() {
            Daemon::start_builtin(producer)?
        } else {
            external::start(&self.told, &self.proc, self.reporter)?
        };
        daemon.before = before;
        self.daemon = Some(daemon);
        Ok(())
    }

    fn go_on(mut self) -> Result<i32, String> {
        let failed = |errno| format!("supervise: {}", errno_text(errno));
        loop {
            self.wait().map_err(failed)?;
            self.read_signals().map_err(failed)?;
            if let Some(code) = self.reap() {
                return Ok(code);
            }
            self.obey().map_err(failed)?;
            // What a start has waited for may have hidden the end of another program.
            if self.served.is_some()
                && let Some(code) = self.reap()
            {
                return Ok(code);
            }
            let Some(daemon) = &mut self.daemon else { continue };
            daemon.relay(self.reporter);
            daemon.read_output(self.reporter);
            if let Some(event) = mount::look_for(daemon, &self.told, &self.proc)? {
                self.reporter.event(&event);
            }
        }
    }

    fn wait(&self) -> Result<(), Errno> {
        let input = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut descriptors =
            vec![input(self.signals.as_fd()), PollFd::new(self.mounts.as_fd(), PollFlags::POLLPRI)];
        descriptors.extend(self.commands.iter().map(|pipe| input(pipe.as_fd())));
        let daemon = self.daemon.as_ref();
        let inner = daemon.and_then(|daemon| daemon.inner.as_ref());
        descriptors.extend(inner.filter(|pipe| !pipe.is_closed()).map(|pipe| input(pipe.as_fd())));
        let output = daemon.and_then(|daemon| daemon.output.as_ref());
        descriptors.extend(output.map(|output| input(output.as_fd())));
        let until = daemon.and_then(|daemon| daemon.mount_until);
        let limit = until
            .map_or(nix::poll::PollTimeout::NONE, |until| timeout(until.saturating_sub(now_ns())));
        match poll(&mut descriptors, limit) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Collects what has ended or been stopped; the exit code when that is the end.
    fn reap(&mut self) -> Option<i32> {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED | WaitPidFlag::WCONTINUED;
        loop {
            let status = match waitpid(None, Some(flags)) {
                Ok(WaitStatus::StillAlive) | Err(_) => return None,
                Ok(status) => status,
            };
            if let (Some(served), WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) =
                (&mut self.served, status)
            {
                served.ended(pid, self.reporter);
            }
            let own = self.daemon.as_ref().map(|daemon| daemon.pid);
            if let Some(daemon) = self.daemon.as_mut().filter(|one| Some(one.pid) == status.pid()) {
                daemon.stopped = matches!(status, WaitStatus::Stopped(..));
            }
            let state = match status {
                WaitStatus::Stopped(pid, _) if Some(pid) == own => {
                    let evidence = "the daemon is stopped".into();
                    self.reporter.event(&ProgramEvent::Obeyed { evidence });
                    continue;
                }
                WaitStatus::Continued(pid) if Some(pid) == own => {
                    let evidence = "the daemon goes on".into();
                    self.reporter.event(&ProgramEvent::Obeyed { evidence });
                    continue;
                }
                WaitStatus::Exited(pid, code) if Some(pid) == own => ProgramState::Exited { code },
                WaitStatus::Signaled(pid, signal, _) if Some(pid) == own => {
                    ProgramState::Signaled {
                        signal: propagation_model::Signal::from_number(signal as i32),
                    }
                }
                _ => continue,
            };
            if let Some(code) = self.daemon_ended(state) {
                return Some(code);
            }
        }
    }

    fn daemon_ended(&mut self, state: ProgramState) -> Option<i32> {
        let mut daemon = self.daemon.take()?;
        daemon.read_output(self.reporter);
        daemon.relay(self.reporter);
        // A program that has put itself into the background: its children are ours.
        let detached = self.served.is_none()
            && state == (ProgramState::Exited { code: 0 })
            && daemon.inner.is_none()
            && mount::served_mounts(&self.told.producer, &self.proc).is_ok_and(|mounts| {
                mounts.last().is_some_and(|mount| !daemon.before.contains(&mount.mount_id))
            });
        if detached && let Some(pid) = any_child(&self.proc) {
            self.daemon = Some(Daemon { pid, ..daemon });
            return None;
        }
        if daemon.mount_until.is_some() {
            let words = daemon.last_words.trim();
            let text = format!("the daemon {state} before it mounted: {words}");
            self.reporter.event(&ProgramEvent::Failed { text });
        }
        self.reporter.log(format!("[{}] The daemon ended: {state}", timestamp()));
        self.reporter.event(&ProgramEvent::DaemonEnded { state: state.clone() });
        let stays = self.told.outlives && !self.ending;
        (!stays).then_some(match state {
            ProgramState::Exited { code } => code,
            _ => 137,
        })
    }

    /// Passes SIGTERM on; SIGCHLD only wakes.
    fn read_signals(&mut self) -> Result<(), Errno> {
        while let Some(signal) = self.signals.read_signal()? {
            if signal.ssi_signo == Signal::SIGTERM as u32 {
                self.ending = true;
                if let Some(served) = &self.served {
                    served.unmount();
                }
                signal_all(Signal::SIGTERM);
            }
        }
        Ok(())
    }

    /// Carries out what the node asks.
    fn obey(&mut self) -> Result<(), Errno> {
        let Some(pipe) = &mut self.commands else { return Ok(()) };
        let open = pipe.fill(false)?;
        let mut commands = Vec::new();
        while let Some(command) = pipe.next::<ProgramCommand>()? {
            commands.push(command);
        }
        if !open {
            self.commands = None;
        }
        for command in commands {
            match command {
                ProgramCommand::Signal { signal } => {
                    let signal = Signal::try_from(signal);
                    // The kernel tells nothing of a SIGCONT to a process that is not stopped.
                    if signal == Ok(Signal::SIGCONT)
                        && self.daemon.as_ref().is_some_and(|daemon| !daemon.stopped)
                    {
                        let evidence = "the daemon goes on: it was not stopped".into();
                        self.reporter.event(&ProgramEvent::Obeyed { evidence });
                    }
                    if let Ok(signal) = signal {
                        self.served
                            .as_ref()
                            .map_or_else(|| signal_all(signal), |served| served.signal(signal));
                    }
                }
                ProgramCommand::StartDaemon { marker, stale } => {
                    let ended = self.end_daemon()?;
                    self.told.producer.marker = marker;
                    self.told.producer.fuse.stale = stale;
                    if let Err(text) = ended.and_then(|()| self.start()) {
                        self.reporter.event(&ProgramEvent::Failed { text });
                    }
                    if self.ending {
                        signal_all(Signal::SIGTERM);
                    }
                }
                other => {
                    let inner = self.daemon.as_ref().and_then(|daemon| daemon.inner.as_ref());
                    if inner.is_none_or(|inner| inner.send(&other).is_err()) {
                        let evidence = "no daemon takes this order".into();
                        self.reporter.event(&ProgramEvent::Obeyed { evidence });
                    }
                }
            }
        }
        Ok(())
    }

    /// Kills the daemon and waits for its end, no longer than [`KILLED_WITHIN_MS`].
    fn end_daemon(&mut self) -> Result<Result<(), String>, Errno> {
        match &self.served {
            Some(served) => served.signal(Signal::SIGKILL),
            None => signal_all(Signal::SIGKILL),
        }
        let until = in_ms(KILLED_WITHIN_MS);
        loop {
            // The exit code is for a supervisor that ends with its daemon: this one starts another.
            let _ = self.reap();
            let Some(daemon) = &self.daemon else { return Ok(Ok(())) };
            let left = until.saturating_sub(now_ns());
            if left == 0 {
                let text = format!(
                    "the daemon, process {} of the container, lives {KILLED_WITHIN_MS} ms after SIGKILL: \
                     no other daemon is started",
                    daemon.pid
                );
                return Ok(Err(text));
            }
            let mut descriptors = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut descriptors, timeout(left)) {
                Ok(_) | Err(Errno::EINTR) => self.read_signals()?,
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Sends a signal to every other process of the container.
fn signal_all(signal: Signal) {
    // From process 1 of a pid namespace -1 is everybody in it but the caller.
    if nix::unistd::getpid().as_raw() == 1 {
        let _ = kill(Pid::from_raw(-1), signal);
    }
}
