//! What to compare, and how much.

use propagation_core::comparison::{Transport, Workload};
use propagation_core::plan::NodeSpec;
use propagation_core::protocol::measure::ENTRY_BYTES;
use propagation_core::{Error, ErrorKind};

/// What to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Which transports. The native one is measured in any case: all are held against it.
    pub transports: Vec<Transport>,
    /// The workloads of each transport.
    pub workloads: Vec<Workload>,
    /// Less of everything, for an answer within ten seconds.
    pub quick: bool,
    /// Number of rounds; the default if none.
    pub rounds: Option<u32>,
    /// From which order and random places follow.
    pub seed: u64,
    /// The command of [`Transport::Daemon`], as for a shell; `{source}` is the directory to show, `{mountpoint}`
    /// the mountpoint, `{work}` an empty directory.
    pub producer_command: String,
    /// The properties of the node; without a runtime one is chosen.
    pub node: NodeSpec,
    /// Programs of the node may open files by their handles, as nfs-ganesha has to. Where containers have the machine's
    /// rights, these are all files of the machine. Without it the transports of NFS are left out, also where they are
    /// in the list; [`Options::naming`] sets it for a user who has named one.
    pub files_by_handle: bool,
    /// SMB clients use wrong credentials: for tests of the error.
    #[doc(hidden)]
    pub wrong_credentials: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            transports: Transport::DEFAULT.into(),
            workloads: Workload::ALL.into(),
            quick: false,
            rounds: None,
            seed: 1,
            producer_command: "bindfs -f {source} {mountpoint}".into(),
            node: NodeSpec::default(),
            files_by_handle: false,
            wrong_credentials: false,
        }
    }
}

impl Options {
    /// The short form: fewer transports, fewer workloads, a small data set.
    pub fn quick() -> Self {
        use Workload::{Die, Open, Scan, Seek, Sequential};
        Self {
            transports: vec![Transport::Native, Transport::Fuse, Transport::SmbRclone],
            workloads: vec![Sequential, Seek, Scan, Open, Die],
            quick: true,
            ..Self::default()
        }
    }

    /// With transports that a user has named one by one: a transport of NFS among them is the user's word that its
    /// server may open files by their handles. A list that stands for all transports is none that a user has named.
    #[must_use]
    pub fn naming(self, transports: Vec<Transport>) -> Self {
        let files_by_handle = transports.iter().any(|transport| transport.is_nfs());
        Self { transports, files_by_handle, ..self }
    }

    /// Refuses invalid options.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`], naming the option.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |what: &str, reason: &str, fix: &str| {
            Err(Error::new(ErrorKind::InvalidInput, what, reason).with_fix(fix))
        };
        if self.transports.is_empty() {
            return refuse("read the transports", "there is none", "name at least one");
        }
        if self.workloads.is_empty() {
            return refuse("read the workloads", "there is none", "name at least one");
        }
        if self.rounds.is_some_and(|rounds| !(1..=1_000).contains(&rounds)) {
            return refuse("read the rounds", "the number is not 1 to 1000", "use 5 to 20");
        }
        let command = self.producer_command.as_str();
        if command.trim().is_empty() || command.contains('\0') {
            return refuse("read the producer's command", "it is empty", "write a program");
        }
        if !command.contains("{mountpoint}") {
            let fix = "write {mountpoint} where the daemon is to mount, as in \
                       \"bindfs -f {source} {mountpoint}\"";
            return refuse("read the producer's command", "it has no {mountpoint}", fix);
        }
        Ok(())
    }

    /// The sizes of the work.
    pub(crate) fn sizes(&self) -> Sizes {
        let sizes = if self.quick { Sizes::QUICK } else { Sizes::FULL };
        Sizes { rounds: self.rounds.unwrap_or(sizes.rounds), ..sizes }
    }
}

/// The sizes of the work in one visit, and the number of rounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) media_bytes: u64,
    pub(crate) entries: u64,
    pub(crate) rounds: u32,
    pub(crate) play_ms: u64,
    pub(crate) play_bytes_per_s: u64,
    pub(crate) seeks: u64,
    pub(crate) opens: u64,
    pub(crate) write_bytes: u64,
    pub(crate) small_files: u64,
    pub(crate) many_ms: u64,
    pub(crate) many_bytes_per_s: u64,
    /// Time that a transport is watched while its server dies.
    pub(crate) die_ms: u64,
    /// When the server is killed.
    pub(crate) kill_ms: u64,
    /// Time that the server is gone.
    pub(crate) down_ms: u64,
    /// When a piece of work is given up.
    pub(crate) give_up_ms: u64,
}

impl Sizes {
    const FULL: Self = Self {
        media_bytes: 64 << 20,
        entries: 10_000,
        rounds: 5,
        play_ms: 200,
        play_bytes_per_s: 8 << 20,
        seeks: 48,
        opens: 80,
        write_bytes: 16 << 20,
        small_files: 20,
        many_ms: 200,
        many_bytes_per_s: 4 << 20,
        die_ms: 8_000,
        kill_ms: 1_000,
        down_ms: 2_500,
        give_up_ms: 20_000,
    };

    const QUICK: Self = Self {
        media_bytes: 16 << 20,
        entries: 1_000,
        play_ms: 100,
        seeks: 32,
        opens: 50,
        write_bytes: 4 << 20,
        small_files: 10,
        many_ms: 100,
        die_ms: 3_000,
        kill_ms: 500,
        down_ms: 700,
        give_up_ms: 5_000,
        ..Self::FULL
    };

    /// With more time around a server's death: every call goes through the API server and the kubelet, so that the
    /// work has begun later than it was asked for, and so has the server's restart.
    pub(crate) fn on_a_cluster(self) -> Self {
        const LATER_MS: u64 = 2_000;
        Self { kill_ms: self.kill_ms + LATER_MS, die_ms: self.die_ms + 2 * LATER_MS, ..self }
    }

    /// Room for the data set, for what is written and for the files of servers, in bytes.
    pub(crate) fn room(self) -> u64 {
        const OF_SERVERS: u64 = 64 << 20;
        self.media_bytes + 2 * self.entries * ENTRY_BYTES + 8 * self.write_bytes + OF_SERVERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nfs_that_is_named_allows_files_by_handle() {
        let named = |transports: &[Transport]| Options::quick().naming(transports.into());
        for nfs in [Transport::Nfs, Transport::FuseNfs] {
            let options = named(&[Transport::Native, nfs]);
            assert!(options.files_by_handle && options.transports.contains(&nfs) && options.quick);
        }
        assert!(!named(&[Transport::Fuse, Transport::SmbCifs]).files_by_handle);
        assert!(!Options::default().files_by_handle && !Options::quick().files_by_handle);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(Options::default().validate().is_ok());
        assert!(Options::quick().validate().is_ok());
        let bad = [
            Options { transports: Vec::new(), ..Options::default() },
            Options { workloads: Vec::new(), ..Options::default() },
            Options { rounds: Some(0), ..Options::default() },
            Options { producer_command: " ".into(), ..Options::default() },
            Options { producer_command: "bindfs -f /a /b".into(), ..Options::default() },
        ];
        for options in bad {
            let error = options.validate().expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.fix().is_some(), "{error}");
        }
    }
}
