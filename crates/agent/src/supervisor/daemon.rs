//! The supervised daemon: how the built-in one starts, and what either kind reports.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use nix::sys::signal::SigSet;
use nix::unistd::Pid;
use propagation_protocol::ProgramEvent;

use crate::child::Child;
use crate::failure::errno_text;
use crate::mounts::Proc;
use crate::pipe::Pipe;
use crate::producer::Producer;
use crate::reporter::Reporter;

/// How much of the daemon's words is shown when it fails to mount, in bytes.
const LAST_WORDS: usize = 2_000;

/// How much of its output is read in one go, in chunks: as much as a pipe holds.
const CHUNKS_AT_ONCE: usize = 16;

/// The daemon that is watched over.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) pid: Pid,
    /// Events of the built-in filesystem, and the way its commands go.
    pub(super) inner: Option<Pipe>,
    /// What an external daemon prints, while it is open.
    pub(super) output: Option<OwnedFd>,
    pub(super) last_words: String,
    /// Mounts that were there before.
    pub(super) before: Vec<u64>,
    /// Whether it is stopped by a signal.
    pub(super) stopped: bool,
    /// When its mount has to be there; none once it is.
    pub(super) mount_until: Option<u64>,
}

impl Daemon {
    /// Starts the built-in filesystem.
    pub(super) fn start_builtin(producer: &Producer) -> Result<Self, String> {
        let child = Child::start(|pipe| {
            let _ = SigSet::all().thread_unblock();
            let code = producer.run(&Reporter::to_node(pipe));
            crate::sys::exit_now(code)
        })
        .map_err(|errno| format!("start the daemon: {}", errno_text(errno)))?;
        let inner = Some(child.pipe);
        let (last_words, before) = (String::new(), Vec::new());
        let (output, stopped, mount_until) = (None, false, None);
        Ok(Self { pid: child.pid, inner, output, last_words, before, stopped, mount_until })
    }

    /// A process that has started and serves.
    pub(super) fn of(pid: Pid) -> Self {
        let (last_words, before) = (String::new(), Vec::new());
        let (inner, output, stopped, mount_until) = (None, None, false, None);
        Self { pid, inner, output, last_words, before, stopped, mount_until }
    }

    /// Passes on what the built-in filesystem reports.
    pub(super) fn relay(&mut self, reporter: &Reporter) {
        let Some(pipe) = &mut self.inner else { return };
        let _ = pipe.fill(false);
        while let Ok(Some(event)) = pipe.next::<ProgramEvent>() {
            reporter.event(&event);
        }
    }

    /// Logs what an external daemon prints, or a good part of it: one that never stops printing does not
    /// hold up everything else.
    pub(super) fn read_output(&mut self, reporter: &Reporter) {
        let Some(output) = self.output.take() else { return };
        let mut file = File::from(output);
        let mut chunk = [0; 4096];
        for _ in 0..CHUNKS_AT_ONCE {
            match file.read(&mut chunk) {
                // All of its ends are closed.
                Ok(0) => return,
                Ok(length) => self.said(&String::from_utf8_lossy(&chunk[..length]), reporter),
                Err(_) => break,
            }
        }
        self.output = Some(file.into());
    }

    fn said(&mut self, text: &str, reporter: &Reporter) {
        for line in text.lines() {
            reporter.log(format!("daemon: {line}"));
        }
        self.last_words.push_str(text);
        let cut = self.last_words.len().saturating_sub(LAST_WORDS);
        let at_character = |at: &usize| self.last_words.is_char_boundary(*at);
        let cut = (cut..=self.last_words.len()).find(at_character).unwrap_or(cut);
        self.last_words.drain(..cut);
    }
}

/// A child that is left, by its number in this pid namespace: /proc may be that of the node.
pub(super) fn any_child(proc: &Proc) -> Option<Pid> {
    let children = proc.read("thread-self/children").ok()?;
    let pids = String::from_utf8_lossy(&children).into_owned();
    pids.split_whitespace().find_map(|pid| {
        let status = proc.read(&format!("{pid}/status")).ok()?;
        let text = String::from_utf8_lossy(&status);
        let numbers = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        numbers.split_whitespace().next_back()?.parse().ok().map(Pid::from_raw)
    })
}
