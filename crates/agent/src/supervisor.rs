//! Process 1 of a producer's container whose daemon is a process of its own: any FUSE program, or the
//! built-in filesystem under a supervisor that outlives it.
//!
//! It never touches the mount: what may hang is a child's work. It obeys the node's commands, tells what
//! becomes of the daemon, and passes on what the daemon says.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};
use propagation_core::marker::{MARKER_FILE, Marker};
use propagation_core::mountinfo::{MountEntry, MountPath};
use propagation_core::observation::Access;
use propagation_core::plan::{MarkerPlace, Stale};
use propagation_core::program::ProgramState;
use propagation_core::protocol::{ProgramCommand, ProgramEvent};

use crate::child::{Child, timeout, within};
use crate::failure::errno_text;
use crate::fuse_mount::unmount;
use crate::look::{Spot, look};
use crate::mounts::{Proc, errno_of, make_directory};
use crate::pipe::Pipe;
use crate::producer::Producer;
use crate::reporter::{Reporter, timestamp};
use crate::run_program;
use crate::sys::{Fork, exit_now, fork, now_ns};

/// How much of the daemon's words is shown when it fails to mount, in bytes.
const LAST_WORDS: usize = 2_000;

/// What a supervised producer is told.
#[derive(Debug, Clone)]
pub(crate) struct Supervisor {
    pub(crate) name: String,
    pub(crate) producer: Producer,
    /// Whether it outlives the daemon.
    pub(crate) outlives: bool,
    /// How long the daemon's mount may take to appear, in milliseconds.
    pub(crate) mount_ms: u64,
    /// How long one access may take, in milliseconds.
    pub(crate) probe_ms: u64,
}

/// The daemon that is watched over.
#[derive(Debug)]
struct Daemon {
    pid: Pid,
    /// Events of the built-in filesystem, and the way its commands go.
    inner: Option<Pipe>,
    /// What an external daemon prints, while it is open.
    output: Option<OwnedFd>,
    last_words: String,
    /// Mounts that were there before.
    before: Vec<u64>,
    /// When its mount has to be there; none once it is.
    mount_until: Option<u64>,
}

struct Supervising<'a> {
    told: Supervisor,
    reporter: &'a Reporter,
    proc: Proc,
    /// Becomes ready when the mount table changes.
    mounts: OwnedFd,
    signals: SignalFd,
    commands: Option<Pipe>,
    daemon: Option<Daemon>,
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
        let (daemon, ending) = (None, false);
        let mut supervising =
            Self { told, reporter, proc, mounts, signals, commands, daemon, ending };
        supervising.start()?;
        Ok(supervising)
    }

    /// Starts the daemon, the first time or again.
    fn start(&mut self) -> Result<(), String> {
        let before = self.fuse_mounts()?.iter().map(|mount| mount.mount_id).collect();
        let mut daemon = if self.told.producer.fuse.is_builtin() {
            self.start_builtin()?
        } else {
            self.start_external()?
        };
        daemon.before = before;
        self.daemon = Some(daemon);
        Ok(())
    }

    fn start_builtin(&self) -> Result<Daemon, String> {
        let producer = self.told.producer.clone();
        let child = Child::start(|pipe| {
            let _ = SigSet::all().thread_unblock();
            let code = producer.run(&Reporter::to_node(pipe));
            crate::sys::exit_now(code)
        })
        .map_err(|errno| format!("start the daemon: {}", errno_text(errno)))?;
        let inner = Some(child.pipe);
        let (last_words, before) = (String::new(), Vec::new());
        Ok(Daemon { pid: child.pid, inner, output: None, last_words, before, mount_until: None })
    }

    fn start_external(&mut self) -> Result<Daemon, String> {
        let producer = &self.told.producer;
        let fuse = &producer.fuse;
        let words = Words::make(&self.told.name, producer)?;
        self.clear_stale()?;
        let _ = make_directory(Path::new(&producer.mountpoint));
        let environment =
            fuse.environment.iter().map(|(k, v)| (k.clone(), words.fill(v))).collect();
        for command in &fuse.prepare {
            let command: Vec<String> = command.iter().map(|word| words.fill(word)).collect();
            let ran = run_program::run(&command, &environment, self.told.mount_ms)
                .map_err(|errno| format!("run {}: {}", command[0], errno_text(errno)))?;
            for line in ran.output.lines() {
                self.reporter.log(format!("{}: {line}", command[0]));
            }
            if ran.exit_code() != Some(0) {
                let state = ran.state.map_or_else(|| "took too long".into(), |s| s.to_string());
                return Err(format!("{}: {state}: {}", command.join(" "), ran.output.trim()));
            }
        }
        let command: Vec<String> = fuse.command.iter().map(|word| words.fill(word)).collect();
        let (output, theirs) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .map_err(|errno| format!("make a pipe: {}", errno_text(errno)))?;
        let again = theirs.try_clone().map_err(|error| error.to_string())?;
        let mut program = run_program::command(&command, &environment);
        program.stdout(Stdio::from(theirs)).stderr(Stdio::from(again));
        let pid =
            match fork().map_err(|errno| format!("start the daemon: {}", errno_text(errno)))? {
                Fork::Child => {
                    // It is born with the signals blocked that the supervisor waits for.
                    let _ = SigSet::all().thread_unblock();
                    let error = program.exec();
                    let words = format!("run {}: {}", command[0], errno_text(errno_of(&error)));
                    let mut out = std::io::stderr();
                    let _ = writeln!(out, "{words}");
                    exit_now(127)
                }
                Fork::Parent(pid) => pid,
            };
        // The pipe is the daemon's alone, so that its end is seen.
        drop(program);
        Ok(Daemon {
            pid,
            inner: None,
            output: Some(output),
            last_words: String::new(),
            before: Vec::new(),
            mount_until: Some(now_ns() + self.told.mount_ms.saturating_mul(1_000_000)),
        })
    }

    /// The FUSE mounts that are stacked at the mountpoint.
    fn fuse_mounts(&self) -> Result<Vec<MountEntry>, String> {
        let table =
            self.proc.mount_table().map_err(|f| format!("{}: {}", f.operation, f.reason))?;
        let path = MountPath::from(self.told.producer.mountpoint.as_str());
        Ok(table.stack_at(&path).into_iter().filter(|m| m.is_fuse()).cloned().collect())
    }

    fn clear_stale(&self) -> Result<(), String> {
        if self.told.producer.fuse.stale != Stale::Unmount {
            return Ok(());
        }
        for _ in self.fuse_mounts()? {
            unmount(Path::new(&self.told.producer.mountpoint))?;
        }
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
            self.relay();
            self.read_output();
            self.look_for_mount()?;
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
            let own = self.daemon.as_ref().map(|daemon| daemon.pid);
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
                    ProgramState::Signaled { signal: signal.as_str().into() }
                }
                _ => continue,
            };
            if let Some(code) = self.daemon_ended(state) {
                return Some(code);
            }
        }
    }

    fn daemon_ended(&mut self, state: ProgramState) -> Option<i32> {
        self.read_output();
        self.relay();
        let daemon = self.daemon.take()?;
        // A program that has put itself into the background: its children are ours.
        let detached = state == (ProgramState::Exited { code: 0 })
            && daemon.inner.is_none()
            && self.fuse_mounts().is_ok_and(|mounts| {
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
        self.reporter.log(format!("[{}] The daemon {state}", timestamp()));
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
                    if let Ok(signal) = Signal::try_from(signal) {
                        signal_all(signal);
                    }
                }
                ProgramCommand::StartDaemon { marker, stale } => {
                    signal_all(Signal::SIGKILL);
                    while self.daemon.is_some() && self.reap().is_none() {
                        self.wait()?;
                        self.read_signals()?;
                    }
                    self.told.producer.marker = marker;
                    self.told.producer.fuse.stale = stale;
                    if let Err(text) = self.start() {
                        self.reporter.event(&ProgramEvent::Failed { text });
                    }
                    if self.ending {
                        signal_all(Signal::SIGTERM);
                    }
                }
                other => {
                    let inner = self.daemon.as_ref().and_then(|daemon| daemon.inner.as_ref());
                    if inner.is_none_or(|inner| inner.send(&other).is_err()) {
                        let evidence = "there is no daemon that obeys".into();
                        self.reporter.event(&ProgramEvent::Obeyed { evidence });
                    }
                }
            }
        }
        Ok(())
    }

    /// Passes on what the built-in filesystem reports.
    fn relay(&mut self) {
        let Some(pipe) = self.daemon.as_mut().and_then(|daemon| daemon.inner.as_mut()) else {
            return;
        };
        let _ = pipe.fill(false);
        while let Ok(Some(event)) = pipe.next::<ProgramEvent>() {
            self.reporter.event(&event);
        }
    }

    /// Logs what an external daemon prints.
    fn read_output(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let Some(output) = &daemon.output else { return };
        let Ok(output) = output.try_clone() else { return };
        let mut file = fs::File::from(output);
        let mut chunk = [0; 4096];
        loop {
            match file.read(&mut chunk) {
                Ok(0) => daemon.output = None,
                Ok(length) => {
                    let text = String::from_utf8_lossy(&chunk[..length]);
                    for line in text.lines() {
                        self.reporter.log(format!("daemon: {line}"));
                    }
                    daemon.last_words.push_str(&text);
                    let cut = daemon.last_words.len().saturating_sub(LAST_WORDS);
                    let at_character = |at: &usize| daemon.last_words.is_char_boundary(*at);
                    let cut = (cut..=daemon.last_words.len()).find(at_character).unwrap_or(cut);
                    daemon.last_words.drain(..cut);
                    continue;
                }
                Err(_) => {}
            }
            return;
        }
    }

    /// Whether the daemon's mount has appeared, and answers.
    fn look_for_mount(&mut self) -> Result<(), String> {
        let Some(until) = self.daemon.as_ref().and_then(|daemon| daemon.mount_until) else {
            return Ok(());
        };
        let before = self.daemon.as_ref().map(|d| d.before.clone()).unwrap_or_default();
        let wanted = self.told.producer.fuse.fs_type.as_deref();
        let there = self.fuse_mounts()?.into_iter().next_back();
        let there = there.filter(|mount| !before.contains(&mount.mount_id));
        let fits = |mount: &MountEntry| wanted.is_none_or(|fs_type| mount.fs_type == fs_type);
        match there {
            Some(mount) if fits(&mount) => {
                let at_ns = now_ns();
                let ready = self.first_look();
                if let Some(daemon) = &mut self.daemon {
                    daemon.mount_until = None;
                }
                self.reporter.event(&match ready {
                    Ok(()) => ProgramEvent::Mounted { at_ns },
                    Err(text) => ProgramEvent::Failed { text },
                });
            }
            other if now_ns() >= until => {
                let found = other.map_or_else(
                    || "no FUSE mount appeared".to_owned(),
                    |mount| format!("a mount of type {} appeared", mount.fs_type),
                );
                if let Some(daemon) = &mut self.daemon {
                    daemon.mount_until = None;
                    let words = daemon.last_words.trim();
                    let text = format!("{found} in {} ms; {words}", self.told.mount_ms);
                    self.reporter.event(&ProgramEvent::Failed { text });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes the marker through the mount where that is asked for, and reads it once, in a child.
    fn first_look(&self) -> Result<(), String> {
        let producer = &self.told.producer;
        let through = producer.fuse.marker == MarkerPlace::Mount;
        let path = Path::new(&producer.mountpoint).join(MARKER_FILE);
        let spot = Spot::in_mount(&producer.mountpoint, MARKER_FILE);
        let looked = within(self.told.mount_ms.min(self.told.probe_ms * 5), || {
            if through && let Err(error) = fs::write(&path, producer.marker.render()) {
                return Err(format!("write {}: {}", path.display(), errno_text(errno_of(&error))));
            }
            let uid = nix::unistd::Uid::effective().as_raw();
            Ok(look(&self.proc, spot, Access::Read, uid, Some(&producer.marker)).outcome)
        });
        match looked {
            Ok(Some(Ok(outcome))) if outcome.is_ok() => Ok(()),
            Ok(Some(Ok(outcome))) => Err(format!("the mount is there, and its marker: {outcome}")),
            Ok(Some(Err(text))) => Err(text),
            Ok(None) => Err("the mount is there and does not answer".into()),
            Err(errno) => Err(format!("look at the mount: {}", errno_text(errno))),
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

/// A child that is left, by its number in this pid namespace: /proc may be that of the node.
fn any_child(proc: &Proc) -> Option<Pid> {
    let children = proc.read("thread-self/children").ok()?;
    let pids = String::from_utf8_lossy(&children).into_owned();
    pids.split_whitespace().find_map(|pid| {
        let status = proc.read(&format!("{pid}/status")).ok()?;
        let text = String::from_utf8_lossy(&status);
        let numbers = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        numbers.split_whitespace().next_back()?.parse().ok().map(Pid::from_raw)
    })
}

/// What stands for the placeholders in commands.
struct Words {
    mountpoint: String,
    source: String,
    work: String,
}

impl Words {
    /// Makes the directories, with the marker in the source.
    fn make(name: &str, producer: &Producer) -> Result<Self, String> {
        let base = format!("/tmp/propagation-{name}-{}", producer.marker.generation);
        let words = Self {
            mountpoint: producer.mountpoint.clone(),
            source: format!("{base}/source"),
            work: format!("{base}/work"),
        };
        let make = |marker: &Marker| -> std::io::Result<()> {
            let sub = format!("{}/{}", words.source, crate::fuse_fs::SUBDIRECTORY);
            fs::create_dir_all(&words.work)?;
            fs::create_dir_all(&sub)?;
            if producer.fuse.marker == MarkerPlace::Source {
                fs::write(format!("{}/{MARKER_FILE}", words.source), marker.render())?;
                fs::write(format!("{sub}/{MARKER_FILE}"), marker.render())?;
            }
            Ok(())
        };
        make(&producer.marker).map_err(|e| format!("make {base}: {}", errno_text(errno_of(&e))))?;
        Ok(words)
    }

    fn fill(&self, word: &str) -> String {
        word.replace("{mountpoint}", &self.mountpoint)
            .replace("{source}", &self.source)
            .replace("{work}", &self.work)
    }
}
