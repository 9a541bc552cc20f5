//! The programs of a transport: a server, its client, and the FUSE filesystem below of a re-export. The daemon that
//! faults hit is the server's, or that of the filesystem below; when it starts again, whoever lives stays as it is.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use mountinfo::MountEntry;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use propagation_model::marker::{MARKER_FILE, Marker};
use propagation_protocol::ProgramEvent;
use propagation_protocol::measure::SpawnState;
use propagation_protocol::transport::{Given, Program, Ready, Recipe};

use super::daemon::Daemon;
use super::mount::{clear_stale, first_look, served_mounts};
use super::told::Supervisor;
use crate::background::{self, Background, Until};
use crate::failure::errno_text;
use crate::fuse_fs::SUBDIRECTORY;
use crate::mounts::{Proc, errno_of, make_directory, unmount_lazily};
use crate::reporter::{Reporter, timestamp};
use crate::run_program;
use crate::sys::now_ns;

/// How long one program may take until it is ready, in milliseconds.
const READY_MS: u64 = 10_000;

/// How long processes that are killed may take to end, in milliseconds.
const END_MS: u64 = 2_000;

/// The length of a marker file in bytes: clients keep the length of a file, and may fail when it changes.
const MARKER_LENGTH: usize = 256;

/// The programs of a transport.
#[derive(Debug)]
pub(super) struct Served {
    recipe: Recipe,
    source: PathBuf,
    mountpoint: PathBuf,
    /// The processes of its programs, by their tags.
    running: Vec<(String, Pid)>,
    /// Whether it has been prepared.
    prepared: bool,
}

impl Served {
    /// Those of a producer whose mount is the client of a server; none for a daemon.
    pub(super) fn of(told: &Supervisor) -> Option<Self> {
        let transport = told.producer.fuse.transport?;
        let base = format!("/tmp/propagation-{}", told.name);
        let source = format!("{base}/source");
        let recipe = Recipe::of(
            transport,
            Given {
                tag: &format!("{}.{transport}", told.name),
                source: &source,
                mountpoint: &told.producer.mountpoint,
                work: &format!("{base}/work"),
                shows: MARKER_FILE,
                on_node: None,
                server: None,
                producer_command: "",
                wrong_credentials: false,
                // What is read must be what the server has now.
                cached: false,
            },
        );
        let mountpoint = PathBuf::from(&told.producer.mountpoint);
        let (running, prepared) = (Vec::new(), false);
        Some(Self { recipe, source: source.into(), mountpoint, running, prepared })
    }

    /// Writes the marker and starts the programs that do not run, each once the one before it is ready; reports the mount.
    /// Returns the daemon that faults hit.
    pub(super) fn start(
        &mut self,
        told: &Supervisor,
        proc: &Proc,
        reporter: &Reporter,
    ) -> Result<Daemon, String> {
        self.write_marker(&told.producer.marker)
            .map_err(|e| format!("write the marker: {}", errno_text(errno_of(&e))))?;
        let anew = !self.prepared;
        if anew {
            self.prepare(told, proc, reporter)?;
        }
        let programs: Vec<Program> = self.recipe.programs().cloned().collect();
        let mut at_ns = now_ns();
        let mut mounted = anew;
        for program in programs {
            if self.runs(&program, told, proc)? {
                continue;
            }
            // What an earlier one of it has mounted goes; the volume that may be there stays.
            if let Some(at) = &program.mountpoint {
                background::unmount_while(proc, Path::new(at), MountEntry::is_served)
                    .map_err(|errno| format!("unmount {at}: {}", errno_text(errno)))?;
            }
            at_ns = self.spawn(&program, reporter)?;
            mounted |= self.recipe.client.as_ref() == Some(&program);
        }
        // A client that stays connects again at its own pace.
        if mounted {
            first_look(told, proc)?;
        }
        reporter.event(&ProgramEvent::Mounted { at_ns });
        let victim = self.recipe.victim().map(|victim| victim.tag.as_str());
        let pid = self.running.iter().find(|(tag, _)| Some(tag.as_str()) == victim);
        let pid = pid.map(|(_, pid)| *pid).ok_or("the server ended at once")?;
        Ok(Daemon::of(pid))
    }

    /// Makes its configuration, once.
    fn prepare(
        &mut self,
        told: &Supervisor,
        proc: &Proc,
        reporter: &Reporter,
    ) -> Result<(), String> {
        let producer = &told.producer;
        if producer.volume != producer.mountpoint {
            producer.write_plain_file().unwrap_or_else(|error| reporter.log(error));
        }
        clear_stale(producer, proc)?;
        let _ = make_directory(&self.mountpoint);
        if let Some(command) = &self.recipe.prepare {
            let ran = run_program::run(command, &BTreeMap::new(), told.mount_ms)
                .map_err(|errno| format!("prepare the server: {}", errno_text(errno)))?;
            if ran.exit_code() != Some(0) {
                let state = ran.state.map_or_else(|| "took too long".into(), |s| s.to_string());
                return Err(format!("prepare the server: {state}: {}", ran.output.trim()));
            }
        }
        self.prepared = true;
        Ok(())
    }

    /// Whether a program runs, or its mount is there where the kernel is the client.
    fn runs(&self, program: &Program, told: &Supervisor, proc: &Proc) -> Result<bool, String> {
        let kernels = self.recipe.transport.is_mounted_by_the_kernel()
            && self.recipe.client.as_ref() == Some(program);
        match kernels {
            // One of another container has lost its server for good.
            true if self.running.iter().any(|(tag, _)| *tag == program.tag) => {
                served_mounts(&told.producer, proc).map(|mounts| !mounts.is_empty())
            }
            true => Ok(false),
            false => Ok(self.running.iter().any(|(tag, _)| *tag == program.tag)),
        }
    }

    /// Starts a program and waits until it is ready; returns when it was.
    fn spawn(&mut self, program: &Program, reporter: &Reporter) -> Result<u64, String> {
        let until = match &program.ready {
            Ready::Listens(address) => Until::Listens(*address),
            Ready::Mounted { at, shows } => Until::Mounted(at.clone(), shows.clone()),
        };
        let program_of = Background {
            tag: program.tag.clone(),
            command: program.command.clone(),
            home: program.home.clone(),
            log: PathBuf::from(&program.log),
            until,
            deadline_ms: READY_MS,
        };
        let name = program.name();
        let (spawned, pid) = program_of
            .spawn_as()
            .map_err(|errno| format!("start {name}: {}", errno_text(errno)))?;
        let said = spawned.output;
        match spawned.state {
            SpawnState::Ready => {}
            SpawnState::NotStarted(why) => return Err(format!("{name}: {why}")),
            SpawnState::Ended(code) => {
                let how = code.map_or("by a signal".into(), |code| format!("with {code}"));
                return Err(format!("{name} ended {how} before it was ready: {said}"));
            }
            SpawnState::Late(what) => {
                return Err(format!("{name} was not ready in {READY_MS} ms: {what}; {said}"));
            }
        }
        reporter.log(format!("[{}] Started {name}", timestamp()));
        self.running.retain(|(tag, _)| *tag != program.tag);
        self.running.extend(pid.map(|pid| (program.tag.clone(), pid)));
        Ok(spawned.known_ns)
    }

    /// Takes note of the end of a process. The one that made a mount of the kernel's ends at once.
    pub(super) fn ended(&mut self, pid: Pid, reporter: &Reporter) {
        let makes_a_mount = |tag: &str| {
            self.recipe.transport.is_mounted_by_the_kernel()
                && self.recipe.client.as_ref().is_some_and(|client| client.tag == tag)
        };
        let Some(index) = self.running.iter().position(|(_, one)| *one == pid) else { return };
        if makes_a_mount(&self.running[index].0) {
            return;
        }
        let (tag, _) = self.running.swap_remove(index);
        reporter.log(format!("[{}] {tag} ended", timestamp()));
    }

    /// Signals the server with its children, or the FUSE filesystem that it serves again; not its client.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(victim) = self.recipe.victim() {
            let _ = background::signal(&victim.tag, signal, END_MS);
        }
    }

    /// Takes its mount off, while the server lives: who has only the mount would wait for it.
    pub(super) fn unmount(&self) {
        let _ = unmount_lazily(&self.mountpoint);
    }

    /// Writes the marker into what is served, in place.
    fn write_marker(&self, marker: &Marker) -> std::io::Result<()> {
        for (directory, content) in [
            (self.source.clone(), marker.render()),
            (self.source.join(SUBDIRECTORY), marker.render_in(&format!("/{SUBDIRECTORY}"))),
        ] {
            fs::create_dir_all(&directory)?;
            let lines = MARKER_LENGTH.saturating_sub(content.len());
            let mut file = fs::OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(false)
                .open(directory.join(MARKER_FILE))?;
            file.write_all((content + &"\n".repeat(lines)).as_bytes())?;
        }
        Ok(())
    }
}
