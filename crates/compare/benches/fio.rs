//! The method against fio's: the same reads of the same file, in turn, have the same rate.
//!
//! The best of several turns counts: what disturbs a turn makes it slower, never faster. Agreement within 10 %
//! is what is aimed at, on a machine that does nothing else.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::error::Error;
    use std::path::Path;
    use std::process::{Command, ExitCode};

    use propagation_core::protocol::measure::{MEDIA_FILE, Measured, Task, Work};

    const TURNS: usize = 9;
    const BYTES: u64 = 256 << 20;
    const SEEKS: u64 = BYTES / 65_536;

    type Failed = Box<dyn Error>;
    type Rate = Result<f64, Failed>;

    #[expect(clippy::print_stderr, reason = "a program that measures")]
    pub(super) fn main() -> ExitCode {
        match sequential().and_then(|()| random()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}; fio is needed (apt-get install fio)");
                ExitCode::FAILURE
            }
        }
    }

    fn sequential() -> Result<(), Failed> {
        agree("sequential", &["--rw=read", "--bs=128k"], || Work::Sequential { bytes: BYTES })
    }

    fn random() -> Result<(), Failed> {
        agree("random, 64 KiB", &["--rw=randread", "--bs=64k", "--norandommap"], || Work::Seek {
            operations: SEEKS,
            seed: 7,
        })
    }

    #[expect(clippy::print_stdout, reason = "a program that measures")]
    fn agree(name: &str, arguments: &[&str], work: fn() -> Work) -> Result<(), Failed> {
        // In memory, so that no disk decides.
        let directory = tempfile::tempdir_in("/dev/shm")?;
        agent(&[
            "dataset".into(),
            directory.path().display().to_string(),
            "--entries".into(),
            "1".into(),
            "--bytes".into(),
            BYTES.to_string(),
        ])?;
        let (mut own, mut theirs) = (0.0_f64, 0.0_f64);
        for _ in 0..TURNS {
            own = own.max(measured(directory.path(), work())?);
            theirs = theirs.max(fio(directory.path(), arguments)?);
        }
        let ratio = own / theirs;
        let mib = |rate: f64| rate / 1_048_576.0;
        println!("{name}: {:.0} MiB/s, fio {:.0} MiB/s, {ratio:.3}", mib(own), mib(theirs));
        Ok(())
    }

    fn agent(arguments: &[String]) -> Result<Vec<u8>, Failed> {
        let output = propagation_agent_embed::command()?.args(arguments).output()?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
        }
    }

    /// Bytes for each second of this project's own measuring.
    fn measured(directory: &Path, work: Work) -> Rate {
        let directory = directory.display().to_string();
        let task = Task { directory, entries: 1, deadline_ms: 60_000, work };
        let printed = agent(&["measure".into(), serde_json::to_string(&task)?])?;
        let measured: Measured = serde_json::from_slice(&printed)?;
        Ok(measured.bytes as f64 / (measured.elapsed_ns as f64 / 1e9))
    }

    fn fio(directory: &Path, arguments: &[&str]) -> Rate {
        let output = Command::new("fio")
            .args(["--name=reads", "--ioengine=psync", "--invalidate=0", "--readonly"])
            .args(["--output-format=json", "--thread"])
            .arg(format!("--filename={}", directory.join(MEDIA_FILE).display()))
            .arg(format!("--size={BYTES}"))
            .args(arguments)
            .output()?;
        let json: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let read = &json["jobs"][0]["read"];
        let (bytes, ns) = (&read["io_bytes"], &read["runtime"]);
        let (Some(bytes), Some(ms)) = (bytes.as_f64(), ns.as_f64()) else {
            return Err(format!("fio said {json}").into());
        };
        Ok(bytes / (ms / 1e3))
    }
}
