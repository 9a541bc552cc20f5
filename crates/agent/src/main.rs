//! The agent's entry.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line program

#[cfg(target_os = "linux")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    std::process::exit(linux::run(&arguments));
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("propagation-agent runs on Linux only");
    std::process::exit(2);
}

#[cfg(target_os = "linux")]
mod measuring;

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::io::Write;

    use propagation_agent::host::{self, Program, Setup};
    use propagation_agent::{Consumer, Proc, Producer, Reporter, facts, node, probe};
    use propagation_model::marker::Marker;
    use propagation_model::plan::Bridge;
    use propagation_model::plan::FuseSpec;
    use propagation_protocol::host::{ProgramHello, ProgramId, SECRET_VARIABLE};

    const USAGE: &str = "\
usage: propagation-agent COMMAND [--NAME VALUE]...

  node      be a simulated node (started by the local backend; socket on standard input)
  container be the program of a container that an OCI runtime makes on a simulated node
  producer  --volume DIR --mountpoint DIR --nonce TEXT [--generation N] [--started TIME]
            [--source TEXT] [--no-allow-other]
  consumer  --mountpoint DIR [--marker-ms N] [--probe-ms N]
  probe     PATH [--timeout TIME] [--sentinel FILE]
            one look that cannot hang; exit code: 0 ok, 10 stale, 11 hung, 12 empty,
            13 not mounted, 1 another error, 2 bad usage
  install   DIR
            copy this program into a directory: an init container brings a probe by it
  facts     --bridge DIR
  release   --pids N,N...
            abort the FUSE connections of processes and of all below them; prints their numbers
  host      --run-id ID [--bridge DIR] [--mountpoint NAME]
            look after a run on the node that this runs on
  attach    --run-id ID [--start] [--bridge DIR] [--mountpoint NAME]
            carry bytes between the standard streams and the host agent of a run
  program   --socket FILE --container N [--replica N] [--source TEXT]
            be what the host agent says, in a container ($PROPAGATION_SECRET: its secret)
  execute   [--deadline-ms N] -- COMMAND...
            run a command with everything that this process may do; its end and its output as JSON
  mirror    SOURCE --mountpoint DIR [--passthrough]
            show a directory by FUSE
  dataset   DIR [--entries N] [--bytes N]
            make what is measured with
  memory    DIR --run-id ID [--bytes N]
            mount a filesystem in memory, for the files of a run on a real node
  processors
            number of processors of the node
  measure   TASK
            work on a data set as the JSON of TASK says
  spawn     --tag TAG --log FILE (--listens ADDRESS | --mounted DIR [--shows PATH]) [--home DIR]
            [--deadline-ms N] -- COMMAND...
            start a server in the background and wait until it serves
  signal    TAG --signal NAME [--deadline-ms N]
  account   TAG,...
            signal the processes of a tag; what those of several have used
  unmount   PATH
            take off every mount at a path
  filesystem NAME
            whether the kernel has a filesystem
  kernel-mount SOURCE --type NAME --mountpoint DIR [--options NAME[=VALUE],...] [--secret NAME=FILE]
            mount a filesystem whose client is the kernel
  version";

    /// Runs the command; returns the exit code.
    pub(super) fn run(arguments: &[String]) -> i32 {
        let Some((command, rest)) = arguments.split_first() else {
            eprintln!("{USAGE}");
            return 2;
        };
        let result = match command.as_str() {
            "node" => return node::main(),
            "container" => return node::container(),
            "version" => {
                println!("propagation-agent {}", env!("CARGO_PKG_VERSION"));
                return 0;
            }
            "producer" => Options::parse(rest, &["no-allow-other"]).and_then(|o| producer(&o)),
            "consumer" => Options::parse(rest, &[]).and_then(|o| consumer(&o)),
            "probe" => Options::parse(rest, &[]).and_then(|o| look(&o)),
            "host" => Options::parse(rest, &[]).and_then(|o| Ok(host::main(&setup(&o)?))),
            "attach" => Options::parse(rest, &["start"])
                .and_then(|o| Ok(host::attach(&setup(&o)?, o.named.contains_key("start")))),
            "program" => Options::parse(rest, &[]).and_then(|o| program(&o)),
            "execute" => execute(rest),
            "install" => Options::parse(rest, &[]).and_then(|o| install(&o)),
            "release" => Options::parse(rest, &[]).and_then(|o| release(&o)),
            "facts" => Options::parse(rest, &[]).and_then(|o| read_facts(&o)),
            "mirror" | "dataset" | "memory" | "processors" | "measure" | "spawn" | "signal"
            | "account" | "unmount" | "filesystem" | "kernel-mount" => {
                super::measuring::run(command, rest)
            }
            other => Err(format!("unknown command {other:?}")),
        };
        result.unwrap_or_else(|error| {
            eprintln!("propagation-agent: {error}\n\n{USAGE}");
            2
        })
    }

    /// `--name value` pairs, flags without a value, and at most one bare word.
    pub(super) struct Options {
        pub(super) named: BTreeMap<String, String>,
        pub(super) bare: Option<String>,
    }

    impl Options {
        pub(super) fn parse(words: &[String], flags: &[&str]) -> Result<Self, String> {
            let mut options = Self { named: BTreeMap::new(), bare: None };
            let mut words = words.iter();
            while let Some(word) = words.next() {
                // After `--` a word is itself, whatever it begins with.
                let name = if word == "--" { None } else { word.strip_prefix("--") };
                let word =
                    if word == "--" { words.next().ok_or("nothing after --")? } else { word };
                match name {
                    Some(name) if flags.contains(&name) => {
                        options.named.insert(name.into(), String::new());
                    }
                    Some(name) => {
                        let value = words.next().ok_or(format!("--{name} needs a value"))?;
                        options.named.insert(name.into(), value.clone());
                    }
                    None if options.bare.is_none() => options.bare = Some(word.clone()),
                    None => return Err(format!("unexpected {word:?}")),
                }
            }
            Ok(options)
        }

        pub(super) fn text(&self, name: &str) -> Result<String, String> {
            self.named.get(name).cloned().ok_or(format!("--{name} is missing"))
        }

        pub(super) fn number(&self, name: &str, default: u64) -> Result<u64, String> {
            let Some(value) = self.named.get(name) else { return Ok(default) };
            value.parse().map_err(|_| format!("--{name} {value:?} is not a whole number"))
        }
    }

    impl Options {
        /// A time: `500ms`, `4s`, or a bare number of milliseconds.
        fn milliseconds(&self, name: &str, default: u64) -> Result<u64, String> {
            let Some(text) = self.named.get(name) else { return Ok(default) };
            let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
                (Some(number), _) => (number, 1),
                (None, Some(number)) => (number, 1_000),
                (None, None) => (text.as_str(), 1),
            };
            let value = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
            value.ok_or_else(|| format!("--{name} {text:?} is not a time such as 500ms or 4s"))
        }
    }

    fn setup(options: &Options) -> Result<Setup, String> {
        let bridge = Bridge::default();
        let text = |name: &str, default| options.named.get(name).cloned().unwrap_or(default);
        let bridge = Bridge {
            path: text("bridge", bridge.path),
            mountpoint: text("mountpoint", bridge.mountpoint),
        };
        Ok(Setup { run_id: options.text("run-id")?, bridge })
    }

    fn program(options: &Options) -> Result<i32, String> {
        let number = |name: &str| {
            let value = options.number(name, 0)?;
            u32::try_from(value).map_err(|_| format!("--{name} {value} is too large"))
        };
        let program = Program {
            socket: options.text("socket")?,
            hello: ProgramHello {
                program: ProgramId { container: number("container")?, replica: number("replica")? },
                secret: std::env::var(SECRET_VARIABLE).unwrap_or_default(),
            },
            source: options.text("source").unwrap_or_else(|_| "propagation".into()),
        };
        Ok(host::run_program(&program).unwrap_or_else(|error| {
            println!("ERROR: {error}");
            1
        }))
    }

    fn execute(words: &[String]) -> Result<i32, String> {
        let split = words.iter().position(|word| word == "--").ok_or("-- COMMAND is missing")?;
        let (options, command) = (Options::parse(&words[..split], &[])?, &words[split + 1..]);
        if command.is_empty() {
            return Err("the command is missing".into());
        }
        let executed = host::execute(command, options.number("deadline-ms", 10_000)?)?;
        println!("{}", serde_json::to_string(&executed).map_err(|error| error.to_string())?);
        Ok(0)
    }

    fn producer(options: &Options) -> Result<i32, String> {
        let producer = Producer {
            volume: options.text("volume")?,
            mountpoint: options.text("mountpoint")?,
            source: options.text("source").unwrap_or_else(|_| "propagation".into()),
            marker: Marker {
                started: options.text("started").unwrap_or_else(|_| "by-hand".into()),
                generation: options.number("generation", 1)?,
                nonce: options.text("nonce")?,
            },
            fuse: FuseSpec {
                allow_other: !options.named.contains_key("no-allow-other"),
                ..FuseSpec::default()
            },
        };
        Ok(producer.run(&Reporter::to_stdout()))
    }

    fn consumer(options: &Options) -> Result<i32, String> {
        let consumer = Consumer {
            mountpoint: options.text("mountpoint")?,
            directory: None,
            marker_ms: options.number("marker-ms", 30_000)?,
            probe_ms: options.number("probe-ms", 2_000)?,
            watches: true,
        };
        Ok(consumer.run(&Reporter::to_stdout()))
    }

    fn look(options: &Options) -> Result<i32, String> {
        let path = options.bare.as_ref().ok_or("the path is missing")?;
        let sentinel = options.named.get("sentinel").map(String::as_str);
        sentinel.map_or(Ok(()), probe::check_sentinel)?;
        let found = probe::probe(path, options.milliseconds("timeout", 2_000)?, sentinel);
        let (word, text) = found.words();
        // What a mount calls itself may hold anything; nobody may listen.
        let line: String =
            text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let _ = writeln!(std::io::stdout(), "{word}: {line}");
        Ok(found.exit_code())
    }

    fn install(options: &Options) -> Result<i32, String> {
        let directory = options.bare.as_ref().ok_or("name the directory")?;
        let target = format!("{directory}/propagation-agent");
        // Its mode is copied too.
        let copied = std::fs::copy("/proc/self/exe", &target);
        copied.map(|_| 0).map_err(|error| format!("copy this program to {target}: {error}"))
    }

    fn release(options: &Options) -> Result<i32, String> {
        let pid =
            |word: &str| word.parse().map_err(|_| format!("--pids {word:?} is not a process id"));
        let pids: Vec<i32> = options.text("pids")?.split(',').map(pid).collect::<Result<_, _>>()?;
        match node::release(&pids) {
            Ok(connections) => {
                connections.iter().for_each(|minor| println!("{minor}"));
                Ok(0)
            }
            Err(failure) => {
                println!("{}: {}", failure.operation, failure.reason);
                Ok(1)
            }
        }
    }

    fn read_facts(options: &Options) -> Result<i32, String> {
        let proc = Proc::open().map_err(|failure| failure.reason)?;
        let facts = facts::read(&proc, &options.text("bridge")?);
        let json = serde_json::to_string_pretty(&facts).map_err(|error| error.to_string())?;
        println!("{json}");
        Ok(0)
    }
}
