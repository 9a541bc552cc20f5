//! Starts an external daemon: the programs before it, its command, and the values of the placeholders in
//! them.
#![allow(unsafe_code)] // fork

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::SigSet;
use nix::unistd::pipe2;
use propagation_model::marker::{MARKER_FILE, Marker};
use propagation_model::plan::MarkerPlace;

use super::daemon::Daemon;
use super::mount::clear_stale;
use super::told::Supervisor;
use crate::failure::errno_text;
use crate::fuse_fs::SUBDIRECTORY;
use crate::mounts::{Proc, errno_of, make_directory};
use crate::producer::Producer;
use crate::reporter::Reporter;
use crate::run_program;
use crate::sys::{Fork, exit_now, fork, in_ms};

/// Runs what has to run before the daemon, and starts it.
pub(super) fn start(told: &Supervisor, proc: &Proc, reporter: &Reporter) -> Result<Daemon, String> {
    let producer = &told.producer;
    let fuse = &producer.fuse;
    let words = Words::make(&told.name, producer)?;
    // Where it mounts on its volume itself, the file would lie in a mount.
    if producer.volume != producer.mountpoint {
        producer.write_plain_file().unwrap_or_else(|error| reporter.log(error));
    }
    clear_stale(producer, proc)?;
    let _ = make_directory(Path::new(&producer.mountpoint));
    let variables = fuse.environment.iter();
    let variables = variables.filter_map(|(name, value)| Some((name.clone(), value.as_ref()?)));
    let environment = variables.map(|(name, value)| (name, words.fill(value))).collect();
    for command in &fuse.prepare {
        let command: Vec<String> = command.iter().map(|word| words.fill(word)).collect();
        let ran = run_program::run(&command, &environment, told.mount_ms)
            .map_err(|errno| format!("run {}: {}", command[0], errno_text(errno)))?;
        for line in ran.output.lines() {
            reporter.log(format!("{}: {line}", command[0]));
        }
        if ran.exit_code() != Some(0) {
            let state = ran.state.map_or_else(|| "took too long".into(), |s| s.to_string());
            return Err(format!("{}: {state}: {}", command.join(" "), ran.output.trim()));
        }
    }
    let command: Vec<String> = fuse.command.iter().map(|word| words.fill(word)).collect();
    // The daemon's end blocks, as programs expect of it: it waits until it is read.
    let (output, theirs) = pipe2(OFlag::O_CLOEXEC)
        .and_then(|(output, theirs)| {
            fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(|_| (output, theirs))
        })
        .map_err(|errno| format!("make a pipe: {}", errno_text(errno)))?;
    let again = theirs.try_clone().map_err(|error| error.to_string())?;
    let mut program = run_program::command(&command, &environment);
    program.stdout(Stdio::from(theirs)).stderr(Stdio::from(again));
    // SAFETY: there is one thread here, as wherever the agent forks.
    let forked = unsafe { fork() };
    let pid = match forked.map_err(|errno| format!("start the daemon: {}", errno_text(errno)))? {
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
        stopped: false,
        pid,
        inner: None,
        output: Some(output),
        last_words: String::new(),
        before: Vec::new(),
        mount_until: Some(in_ms(told.mount_ms)),
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
            let sub = format!("{}/{}", words.source, SUBDIRECTORY);
            fs::create_dir_all(&words.work)?;
            fs::create_dir_all(&sub)?;
            if producer.fuse.marker == MarkerPlace::Source {
                fs::write(format!("{}/{MARKER_FILE}", words.source), marker.render())?;
                let content = marker.render_in(&format!("/{SUBDIRECTORY}"));
                fs::write(format!("{sub}/{MARKER_FILE}"), content)?;
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
