//! The commands that measure: their arguments, and their result as one JSON value.

use std::io::Write as _;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use propagation_agent::background::{self, Background, Until};
use propagation_agent::kernel_mount::{self, KernelMount};
use propagation_agent::{host, measure, mirror};
use propagation_protocol::measure::Task;
use serde::Serialize;

use super::linux::Options;

/// Runs one of them; returns the exit code.
pub(super) fn run(command: &str, words: &[String]) -> Result<i32, String> {
    match command {
        "mirror" => mirror(&Options::parse(words, &["passthrough"])?),
        "measure" => measure(&Options::parse(words, &[])?),
        "dataset" => data_set(&Options::parse(words, &[])?),
        "spawn" => spawn(words),
        "signal" => signal(&Options::parse(words, &[])?),
        "account" => {
            let tags = bare(&Options::parse(words, &[])?, "TAGS")?;
            print(background::account(&tags.split(',').collect::<Vec<_>>()))
        }
        "memory" => memory(&Options::parse(words, &[])?),
        "processors" => print(Ok(std::thread::available_parallelism().map_or(1, usize::from))),
        "filesystem" => print(kernel_mount::has(&bare(&Options::parse(words, &[])?, "NAME")?)),
        "kernel-mount" => kernel_mount(&Options::parse(words, &[])?),
        "unmount" => {
            print(background::unmount(Path::new(&bare(&Options::parse(words, &[])?, "PATH")?)))
        }
        other => Err(format!("unknown command {other:?}")),
    }
}

fn mirror(options: &Options) -> Result<i32, String> {
    let (source, mountpoint) = (bare(options, "SOURCE")?, options.text("mountpoint")?);
    let passthrough = options.named.contains_key("passthrough");
    failed_with(mirror::serve(Path::new(&source), Path::new(&mountpoint), passthrough))
}

fn measure(options: &Options) -> Result<i32, String> {
    let text = bare(options, "TASK")?;
    let task: Task = serde_json::from_str(&text).map_err(|error| format!("TASK: {error}"))?;
    print(measure::measure(&task))
}

fn data_set(options: &Options) -> Result<i32, String> {
    let directory = bare(options, "DIR")?;
    let (entries, bytes) = (options.number("entries", 10_000)?, options.number("bytes", 64 << 20)?);
    let made = measure::make_data_set(Path::new(&directory), entries, bytes);
    failed_with(made.map_err(|error| format!("make the data set in {directory}: {error}")))
}

fn memory(options: &Options) -> Result<i32, String> {
    let (at, run_id) = (bare(options, "DIR")?, options.text("run-id")?);
    print(host::mount_memory(Path::new(&at), &run_id, options.number("bytes", 256 << 20)?))
}

fn spawn(words: &[String]) -> Result<i32, String> {
    let split = words.iter().position(|word| word == "--").ok_or("-- COMMAND is missing")?;
    let (options, command) = (Options::parse(&words[..split], &[])?, words[split + 1..].to_vec());
    if command.is_empty() {
        return Err("the command is missing".into());
    }
    let until = match options.named.get("listens") {
        Some(address) => {
            let parsed = address.parse();
            Until::Listens(
                parsed.map_err(|_| format!("--listens {address:?}: expected ADDRESS:PORT"))?,
            )
        }
        None => {
            let at = options.text("mounted")?;
            Until::Mounted(at.clone(), options.text("shows").unwrap_or(at))
        }
    };
    let background = Background {
        tag: options.text("tag")?,
        command,
        home: options.text("home").unwrap_or_else(|_| "/tmp".into()),
        log: options.text("log")?.into(),
        until,
        deadline_ms: options.number("deadline-ms", 10_000)?,
    };
    print(background.spawn())
}

fn signal(options: &Options) -> Result<i32, String> {
    let name = options.text("signal")?;
    let signal: Signal =
        format!("SIG{name}").parse().map_err(|_| format!("unknown signal {name:?}"))?;
    let deadline_ms = options.number("deadline-ms", 2_000)?;
    print(background::signal(&bare(options, "TAG")?, signal, deadline_ms))
}

fn kernel_mount(options: &Options) -> Result<i32, String> {
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').ok_or(format!("{text:?} is not NAME=VALUE"))?;
        Ok::<_, String>((name.to_owned(), value.to_owned()))
    };
    let given = options.text("options").unwrap_or_default();
    let mount = KernelMount {
        filesystem: options.text("type")?,
        source: bare(options, "SOURCE")?,
        options: given
            .split(',')
            .filter(|option| !option.is_empty())
            .map(|option| match option.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (option.to_owned(), None),
            })
            .collect(),
        secret: options.named.get("secret").map(|text| pair(text)).transpose()?,
    };
    failed_with(mount.mount(Path::new(&options.text("mountpoint")?)))
}

fn bare(options: &Options, name: &str) -> Result<String, String> {
    options.bare.clone().ok_or(format!("{name} is missing"))
}

fn print<T: Serialize>(result: Result<T, Errno>) -> Result<i32, String> {
    let value = match result {
        Ok(value) => value,
        Err(errno) => return failed_with(Err(format!("{} ({errno:?})", errno.desc()))),
    };
    let json = serde_json::to_string(&value).map_err(|error| error.to_string())?;
    let _ = writeln!(std::io::stdout(), "{json}");
    Ok(0)
}

/// The exit code, with the reason on standard error.
fn failed_with(result: Result<(), String>) -> Result<i32, String> {
    let Err(reason) = result else { return Ok(0) };
    let _ = writeln!(std::io::stderr(), "{reason}");
    Ok(1)
}
