//! What one look of the liveness probe costs: from its exec to its exit, and in memory.

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::io;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use propagation_benches::machine::Neighbours;
    use propagation_benches::statistics::Samples;
    use propagation_benches::table::{Table, against, heading, milliseconds, note};
    use propagation_benches::{options, run_tool};

    /// The project's limits: exec to exit, memory of the probe and of its child, the file.
    const LIMIT_MS: f64 = 5.0;
    const LIMIT_KIB: u64 = 4 * 1024;
    const LIMIT_FILE_BYTES: usize = 2 * 1024 * 1024;

    /// A mount that is on every system.
    const MOUNT: &str = "/proc";

    /// A mount in which a file can be made whose opening waits for ever.
    const SHARED_MEMORY: &str = "/dev/shm";

    pub(super) fn main() -> io::Result<()> {
        let rounds = options::number("rounds", 300);
        let scratch = tempfile::tempdir()?;
        let agent = scratch.path().join("propagation-agent");
        fs::write(&agent, propagation_agent_embed::AGENT)?;
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))?;
        let tool = run_tool::find(Path::new(env!("CARGO_BIN_EXE_floor")))?;
        let neighbours = Neighbours::watch();

        let commands = [
            ("`propagation-agent probe`", &*agent, &["probe", MOUNT][..]),
            ("`propagation probe`, which becomes the agent", &*tool, &["probe", MOUNT][..]),
            ("`true`, for comparison", Path::new("true"), &[][..]),
        ];
        let mut times: [Samples; 3] = Default::default();
        for _ in 0..rounds {
            // In turns, so that a busy moment of the machine is everybody's.
            for ((_, program, arguments), times) in commands.iter().zip(&mut times) {
                times.push(time(program, arguments)?);
            }
        }
        let memory = memory(&agent, scratch.path())?;

        heading(
            "Probe",
            &[
                &format!(
                    "One look at {MOUNT} by a new process, exec to exit, {rounds} times each,"
                ),
                &format!("in turns; {}.", neighbours.describe()),
            ],
        );
        let mut table = Table::new(["time", "median", "p99", "least", "5 ms"]);
        for ((name, ..), times) in commands.iter().zip(&times) {
            table.row([
                (*name).into(),
                milliseconds(times.median()),
                milliseconds(times.percentile(99)),
                milliseconds(times.percentile(0)),
                against(times.median(), LIMIT_MS).into(),
            ]);
        }
        table.print();
        let file = propagation_agent_embed::AGENT.len();
        note(&format!(
            "Memory at its highest (VmHWM) while it waits: {} KiB, its child {} KiB; 4 MiB: {}.",
            memory.parent_kib,
            memory.child_kib,
            against((memory.parent_kib + memory.child_kib) as f64, LIMIT_KIB as f64)
        ));
        note(&format!(
            "The agent's file: {file} bytes; 2 MiB: {}.",
            against(file as f64, LIMIT_FILE_BYTES as f64)
        ));
        Ok(())
    }

    fn time(program: &Path, arguments: &[&str]) -> io::Result<f64> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        let status = command.status()?;
        let took = started.elapsed().as_secs_f64() * 1e3;
        if status.success() {
            Ok(took)
        } else {
            Err(io::Error::other(format!("it ended with {status}")))
        }
    }

    struct Memory {
        parent_kib: u64,
        child_kib: u64,
    }

    /// The memory of a probe whose look hangs: its sentinel is a pipe to which nobody writes.
    fn memory(agent: &Path, scratch: &Path) -> io::Result<Memory> {
        let name = format!("propagation-bench-{}", std::process::id());
        let pipe = Path::new(SHARED_MEMORY).join(&name);
        let made = Command::new("mkfifo").arg(&pipe).status()?;
        if !made.success() {
            return Err(io::Error::other(format!("mkfifo ended with {made}")));
        }
        let result = memory_of_hung(agent, &name, scratch);
        fs::remove_file(&pipe)?;
        result
    }

    fn memory_of_hung(agent: &Path, sentinel: &str, scratch: &Path) -> io::Result<Memory> {
        let mut probe = Command::new(agent)
            .args(["probe", SHARED_MEMORY, "--timeout", "60s", "--sentinel", sentinel])
            .current_dir(scratch)
            .stdout(Stdio::null())
            .spawn()?;
        let pid = probe.id();
        let found = wait_for_hung_child(pid)
            .and_then(|child| Ok(Memory { parent_kib: highest(pid)?, child_kib: highest(child)? }));
        // A writer that opens and closes the pipe ends the wait.
        let writer = fs::OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(Path::new(SHARED_MEMORY).join(sentinel));
        if writer.is_err() {
            probe.kill()?;
        }
        drop(writer);
        probe.wait()?;
        found
    }

    /// The child of the probe, once it sleeps in the opening of the pipe.
    fn wait_for_hung_child(pid: u32) -> io::Result<u32> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
            if let Some(child) = children.split_whitespace().next().and_then(|c| c.parse().ok())
                && fs::read_to_string(format!("/proc/{child}/wchan"))
                    .is_ok_and(|at| at.contains("wait_for_partner"))
            {
                return Ok(child);
            }
            std::thread::yield_now();
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the probe's child does not open the pipe"))
    }

    fn highest(pid: u32) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok());
        number.ok_or_else(|| io::Error::other("no VmHWM"))
    }
}
