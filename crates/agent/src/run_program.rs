//! Running a program to its end, with a deadline, and keeping what it prints.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;
use propagation_core::program::{Executed, PATH, ProgramState};

use crate::child::within;
use crate::failure::errno_text;
use crate::mounts::errno_of;

/// How much of what a program prints is kept, in bytes.
const KEPT_BYTES: u64 = 64 * 1024;

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
/// As [`run`], and those of `enter`.
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
    let mut output = match memfd_create(c"output", MFdFlags::MFD_CLOEXEC) {
        Ok(output) => File::from(output),
        Err(errno) => return cannot(errno),
    };
    let streams = output.try_clone().and_then(|out| Ok((out, output.try_clone()?)));
    let (out, err) = match streams {
        Ok(streams) => streams,
        Err(error) => return cannot(errno_of(&error)),
    };
    let status = command(words, environment).stdout(out).stderr(err).status();
    let state = match status {
        Ok(status) => state_of(status),
        Err(error) => return cannot(errno_of(&error)),
    };
    let mut kept = Vec::new();
    let read = output.rewind().and_then(|()| output.take(KEPT_BYTES).read_to_end(&mut kept));
    let text = String::from_utf8_lossy(&kept).into_owned();
    Executed { state: Some(state), output: read.map(|_| text).unwrap_or_default() }
}

/// How a process ended.
fn state_of(status: ExitStatus) -> ProgramState {
    match (status.code(), status.signal()) {
        (Some(code), _) => ProgramState::Exited { code },
        (None, signal) => {
            let signal = signal.and_then(|number| Signal::try_from(number).ok());
            let name = signal.map_or("a signal", Signal::as_str);
            ProgramState::Signaled { signal: name.into() }
        }
    }
}
