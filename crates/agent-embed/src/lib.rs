//! The agent's static binary, inside whatever program links this crate.
//!
//! So it is found with no configuration: from the command line, under `cargo test`, embedded in
//! another program, from the Python wheel. It is executed from memory and leaves no file behind.
//!
//! ```
//! # #[cfg(target_os = "linux")] {
//! let output = propagation_agent_embed::command()?.arg("version").output()?;
//! assert!(output.stdout.starts_with(b"propagation-agent "));
//! # }
//! # Ok::<(), std::io::Error>(())
//! ```

/// The bytes of the agent for the architecture this crate was built for; empty where the agent
/// cannot run.
pub static AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/propagation-agent"));

/// The name under which the agent runs, as `ps` shows it.
pub const NAME: &str = "propagation-agent";

/// What an agent has of its caller's environment. Whoever runs in a node can read the agent's there
/// (`/proc/1/environ`), and what the caller keeps in variables is no business of a scenario.
pub const ENVIRONMENT: [&str; 2] = ["PATH", "RUST_BACKTRACE"];

/// A command that runs the embedded agent; arguments are the caller's. Of the caller's environment it
/// has [`ENVIRONMENT`] alone.
///
/// # Errors
/// When the kernel has no memfd_create(2) or /proc is not mounted.
#[cfg(target_os = "linux")]
pub fn command() -> std::io::Result<std::process::Command> {
    use std::os::unix::process::CommandExt;

    let mut command = std::process::Command::new(in_memory::path()?);
    let kept = ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.arg0(NAME).env_clear().envs(kept);
    Ok(command)
}

#[cfg(target_os = "linux")]
mod in_memory {
    use std::fs::File;
    use std::io::{self, Write};
    use std::os::fd::AsRawFd;
    use std::sync::OnceLock;

    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};

    /// A path that executes the agent. The file behind it exists in memory, once per process, as
    /// long as the process does.
    pub(super) fn path() -> io::Result<String> {
        static FILE: OnceLock<File> = OnceLock::new();
        let file = match FILE.get() {
            Some(file) => file,
            None => {
                let made = make()?;
                FILE.get_or_init(|| made)
            }
        };
        // The child opens it after the fork, by its own copy of the descriptor.
        Ok(format!("/proc/self/fd/{}", file.as_raw_fd()))
    }

    fn make() -> io::Result<File> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let writable = memfd_create(super::NAME, flags)?;
        let number = writable.as_raw_fd();
        let mut writable = File::from(writable);
        writable.write_all(super::AGENT)?;
        // Who runs it has it in /proc, and is not to change what runs next.
        fcntl(&writable, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
        // A file that is open for writing cannot be executed (ETXTBSY): keep a read-only one.
        File::open(format!("/proc/self/fd/{number}"))
    }
}
