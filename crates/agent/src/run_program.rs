//! Running a program to its end, with a deadline, and keeping what it prints.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::unistd::Pid;
use propagation_model::program::{Executed, PATH, ProgramState};

use crate::child::within;
use crate::failure::errno_text;
use crate::mounts::errno_of;

/// How much of what a program prints is kept, in bytes.
const KEPT_BYTES: usize = 64 * 1024;

/// The exit code that shells give for a program that cannot be started.
pub(crate) const NOT_STARTED: i32 = 127;

/// A command with the environment that programs of a scenario have.
pub(crate) fn command(words: &[String], environment: &BTreeMap<String, String>) -> Command {
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/tmp")
        .env("LC_ALL", "C")
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

/// Runs a program to its end. One that takes longer than `deadline_ms` is killed, with everything in its
/// process group.
///
/// # Errors
/// When no child can be made. That the program cannot be started is told as shells do: exit code 127
/// and the reason.
pub(crate) fn run(
    words: &[String],
    environment: &BTreeMap<String, String>,
    deadline_ms: u64,
) -> Result<Executed, Errno> {
    run_after(words, environment, deadline_ms, || Ok(()))
}

/// As [`run`], in the namespaces that `enter` enters. The process that waits for the program is in no other
/// pid namespace than before, so that it outlives one that ends with the program in it.
///
/// # Errors
/// The errors of [`run`] and of `enter`.
pub(crate) fn run_after(
    words: &[String],
    environment: &BTreeMap<String, String>,
    deadline_ms: u64,
    enter: impl FnOnce() -> Result<(), Errno>,
) -> Result<Executed, Errno> {
    let work = || match enter() {
        Ok(()) => Ok(run_here(words, environment)),
        Err(errno) => Err(errno as i32),
    };
    match within(deadline_ms, work)? {
        None => Ok(Executed { state: None, output: String::new() }),
        Some(ran) => ran.map_err(Errno::from_raw),
    }
}

fn run_here(words: &[String], environment: &BTreeMap<String, String>) -> Executed {
    // Who gives this process up kills the group.
    let _ = nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
    // Programs inherit the mask, and are not to have what the agent waits for blocked.
    let _ = SigSet::all().thread_unblock();
    let cannot = |errno: Errno| Executed {
        state: Some(ProgramState::Exited { code: NOT_STARTED }),
        output: format!("{}: {}", words[0], errno_text(errno)),
    };
    let streams = std::io::pipe().and_then(|(output, out)| Ok((output, out.try_clone()?, out)));
    let (output, out, err) = match streams {
        Ok(streams) => streams,
        Err(error) => return cannot(errno_of(&error)),
    };
    // The command has the writing ends, and goes with them: what is left are the program's.
    let started = command(words, environment).stdout(out).stderr(err).spawn();
    let mut program = match started {
        Ok(program) => program,
        Err(error) => return cannot(errno_of(&error)),
    };
    let mut printed = Printed::default();
    match printed.until_it_ends(output.into(), program.id()).and_then(|()| program.wait()) {
        Ok(status) => Executed { state: Some(state_of(status)), output: printed.text() },
        Err(error) => cannot(errno_of(&error)),
    }
}

/// What a program prints: its beginning is kept, and the rest is counted.
#[derive(Debug, Default)]
struct Printed {
    kept: Vec<u8>,
    dropped: u64,
}

impl Printed {
    /// Reads until the program has ended. What it has left in the background may go on printing and is not
    /// waited for.
    fn until_it_ends(&mut self, output: OwnedFd, pid: u32) -> std::io::Result<()> {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).ok_or(Errno::ESRCH)?;
        let ended = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        nix::fcntl::fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let mut output = File::from(output);
        let mut open = true;
        loop {
            let mut descriptors = vec![PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
            if open {
                descriptors.push(PollFd::new(output.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut descriptors, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let over = descriptors[0].any().unwrap_or(true);
            open = open && self.take(&mut output)?;
            if over {
                return Ok(());
            }
        }
    }

    /// Takes what is there, as much as a pipe holds; whether more may come.
    fn take(&mut self, output: &mut File) -> std::io::Result<bool> {
        const CHUNKS_AT_ONCE: usize = 16;
        let mut chunk = [0; 4096];
        for _ in 0..CHUNKS_AT_ONCE {
            match output.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(length) => {
                    let room = KEPT_BYTES.saturating_sub(self.kept.len()).min(length);
                    self.kept.extend_from_slice(&chunk[..room]);
                    self.dropped += (length - room) as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.kept).into_owned();
        if self.dropped > 0 {
            text.push_str(&format!(
                "\n[{KEPT_BYTES} bytes of its output are kept; {} more are left out]\n",
                self.dropped
            ));
        }
        text
    }
}

/// How a process ended.
fn state_of(status: ExitStatus) -> ProgramState {
    match (status.code(), status.signal()) {
        (Some(code), _) => ProgramState::Exited { code },
        (None, signal) => {
            let signal = propagation_model::Signal::from_number(signal.unwrap_or_default());
            ProgramState::Signaled { signal }
        }
    }
}
