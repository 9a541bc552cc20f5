//! Options of `propagation compare`.

use propagation_compare::Options;
use propagation_core::comparison::{Transport, Workload};
use propagation_core::{Error, ErrorKind};

use super::cluster::ClusterOptions;
use super::{BackendName, Shown};

/// How a comparison is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CompareFormat {
    /// For people, in a terminal.
    Text,
    /// For programs: every value.
    Json,
    /// For an issue or a wiki.
    Markdown,
    /// For people, in a browser: bars, latency curves, timelines.
    Html,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompareOptions {
    /// Where to compare.
    #[arg(long, value_enum, default_value = "local")]
    pub(crate) backend: BackendName,
    /// Transports, separated by commas, or all [default: native, fuse, fuse-passthrough, daemon, smb-rclone,
    /// smb-cifs; with --quick native, fuse, smb-rclone]. Others: smb-smbnetfs, nfs, fuse-smb-rclone,
    /// fuse-smb-cifs, fuse-nfs. Naming nfs or fuse-nfs lets its server open any file of the node by its
    /// handle; all does not.
    #[arg(long, value_name = "NAMES")]
    transports: Option<String>,
    /// Workloads, separated by commas [default: all; with --quick sequential, seek, scan, open, die]. Others:
    /// play, write, many.
    #[arg(long, value_name = "NAMES")]
    workloads: Option<String>,
    /// Measure less, within ten seconds.
    #[arg(long)]
    quick: bool,
    /// Number of rounds; below 5 no difference is reported [default: 5].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Seed of the order and of random positions [default: 1].
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    seed: u64,
    /// Command of the transport `daemon`, with {source}, {mountpoint} and {work}; it must stay in the
    /// foreground.
    #[arg(long, value_name = "COMMAND", default_value = "bindfs -f {source} {mountpoint}")]
    producer_command: String,
    /// Output format.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: CompareFormat,
    /// Directory to write the comparison to, in every format.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<std::path::PathBuf>,
    #[command(flatten)]
    pub(crate) shown: Shown,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
}

impl CompareOptions {
    /// Refuses options of a cluster that do not apply.
    pub(crate) fn check_backend(&self) -> Result<(), Error> {
        if self.backend == BackendName::Local {
            return self.cluster.refuse_any();
        }
        if !self.cluster.is_one_node() {
            let reason = "transports are compared on one node";
            return Err(Error::new(ErrorKind::InvalidInput, "read the arguments", reason)
                .with_fix("name one node with --node, and compare node by node"));
        }
        self.cluster.refuse_those_of_many_runs()
    }

    /// What to compare.
    pub(crate) fn options(&self) -> Result<Options, Error> {
        let default = if self.quick { Options::quick() } else { Options::default() };
        let (transports, workloads) = (self.transports.as_deref(), self.workloads.as_deref());
        let default = match names(transports, "--transports", &Transport::ALL)? {
            // The word names none.
            Some(all) if transports == Some(ALL) => Options { transports: all, ..default },
            Some(named) => default.naming(named),
            None => default,
        };
        let options = Options {
            workloads: names(workloads, "--workloads", &Workload::ALL)?
                .unwrap_or(default.workloads),
            rounds: self.rounds,
            seed: self.seed,
            producer_command: self.producer_command.clone(),
            ..default
        };
        options.validate()?;
        Ok(options)
    }
}

/// The word for all names.
const ALL: &str = "all";

/// Names separated by commas; all for `all`.
fn names<T>(text: Option<&str>, option: &str, all: &[T]) -> Result<Option<Vec<T>>, Error>
where
    T: std::str::FromStr<Err = String> + Copy,
{
    let Some(text) = text else { return Ok(None) };
    if text == ALL {
        return Ok(Some(all.to_vec()));
    }
    let names = text.split(',').map(|name| {
        name.trim().parse().map_err(|reason: String| {
            Error::new(ErrorKind::InvalidInput, format!("read {option}"), reason)
        })
    });
    names.collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Parsed {
        #[command(flatten)]
        options: CompareOptions,
    }

    #[test]
    fn only_a_transport_that_is_named_allows_what_its_server_needs() {
        let allows = |words: &[&str]| {
            let parsed = Parsed::try_parse_from([&["compare"], words].concat());
            parsed.expect("options").options.options().expect("valid").files_by_handle
        };
        assert!(allows(&["--transports", "native,nfs"]));
        assert!(allows(&["--transports", "fuse-nfs"]));
        for words in [&["--transports", "all"][..], &["--transports", "native,smb-cifs"], &[]] {
            assert!(!allows(words), "{words:?}");
        }
    }

    #[test]
    fn names_are_read_with_what_was_meant() {
        let read = |text| names(Some(text), "--transports", &Transport::ALL);
        assert_eq!(
            read("native, fuse").expect("known"),
            Some(vec![Transport::Native, Transport::Fuse])
        );
        assert_eq!(read("all").expect("all").map(|all| all.len()), Some(Transport::ALL.len()));
        let error = read("native,fuze").expect_err("unknown");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("did you mean fuse?"), "{error}");
        assert!(read("").is_err());
    }
}
