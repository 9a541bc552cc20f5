//! What the measuring programs of the agent are told, and what they answer.
//!
//! They run inside containers, wherever a command can be run there, and print one JSON value. All times are
//! nanoseconds of the monotonic clock, which containers of one machine share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The variable by which the processes of a transport are known; children inherit it.
pub const TAG_VARIABLE: &str = "PROPAGATION_TAG";

/// The long file of a data set.
pub const MEDIA_FILE: &str = "media.bin";

/// The directory of a data set with many small files.
pub const ENTRIES_DIRECTORY: &str = "entries";

/// The directory of a data set that is written into.
pub const SCRATCH_DIRECTORY: &str = "scratch";

/// How large each of the small files is, in bytes.
pub const ENTRY_BYTES: u64 = 4096;

/// The name of a small file by its number.
pub fn entry_name(number: u64) -> String {
    format!("{number:06}.dat")
}

/// A piece of work for a measuring process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Where the data set is.
    pub directory: String,
    /// How many small files it has.
    pub entries: u64,
    /// When the work is given up.
    pub deadline_ms: u64,
    /// What is done.
    pub work: Work,
}

/// What is done to a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum Work {
    /// Reads the long file from its beginning, as fast as it comes.
    Sequential {
        /// How much at the most.
        bytes: u64,
    },
    /// Reads the long file at a rate, as a player does.
    Play {
        /// The rate.
        bytes_per_s: u64,
        /// How long.
        duration_ms: u64,
    },
    /// Reads 64 KiB at random places of the long file.
    Seek {
        /// How often.
        operations: u64,
        /// Of the places.
        seed: u64,
    },
    /// Lists the directory of small files and looks at the attributes of each.
    Scan,
    /// Opens a small file, reads it, closes it.
    Open {
        /// How often.
        operations: u64,
        /// Of the choice.
        seed: u64,
    },
    /// Writes a file from its beginning and syncs it.
    Write {
        /// How much.
        bytes: u64,
    },
    /// Writes a small file, syncs it, renames it over another.
    SmallFiles {
        /// How often.
        operations: u64,
    },
    /// Four players, a scan and a writer at once.
    Many {
        /// The rate of each player.
        bytes_per_s: u64,
        /// How long.
        duration_ms: u64,
    },
    /// Opens small files, and reads on in a file that was opened before, all the time.
    Die {
        /// How long.
        duration_ms: u64,
        /// Of the choice of files.
        seed: u64,
    },
}

/// How many operations took how long: pairs of nanoseconds and counts, in two significant digits.
pub type Latencies = Vec<(u64, u64)>;

/// What a piece of work gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Operations that ended well: reads, looks, openings, files written.
    pub operations: u64,
    /// Bytes read or written.
    pub bytes: u64,
    /// From the first to the last operation.
    pub elapsed_ns: u64,
    /// From the beginning to the first byte read.
    pub first_byte_ns: u64,
    /// How often a player had to wait for what it should have had.
    pub stalls: u64,
    /// What operations took.
    pub latencies: Latencies,
    /// How many operations failed, by errno.
    pub failed: BTreeMap<String, u64>,
    /// Whether it was given up: an operation did not end.
    pub hung: bool,
    /// What the measuring processes used.
    pub used: Used,
    /// For [`Work::Die`]: what accesses gave, in the order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fresh: Vec<Stretch>,
    /// For [`Work::Die`]: the same for the file that was opened before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Stretch>,
}

/// What processes used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Processor time.
    pub cpu_ns: u64,
    /// Of that, time in the kernel.
    pub kernel_ns: u64,
    /// Switches to other processes.
    pub switches: u64,
    /// The most memory that was resident, in bytes, summed over processes.
    pub peak_bytes: u64,
    /// How many processes there are.
    pub processes: u64,
}

/// A time in which accesses gave the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// When the first of them began.
    pub from_ns: u64,
    /// When the first of them ended.
    pub first_until_ns: u64,
    /// When the last of them ended.
    pub until_ns: u64,
    /// What they gave.
    pub gave: Gave,
    /// How many they were.
    pub operations: u64,
    /// The longest of them.
    pub longest_ns: u64,
}

pub use propagation_model::comparison::Gave;

/// From when on an access counts as slow.
pub const SLOW_NS: u64 = 100_000_000;

/// What became of a program that was started in the background.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawned {
    /// How it is.
    pub state: SpawnState,
    /// When it was started.
    pub began_ns: u64,
    /// When it was known how it is.
    pub known_ns: u64,
    /// The end of what it printed.
    pub output: String,
}

/// How a program is that was started in the background.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpawnState {
    /// It does what was waited for.
    Ready,
    /// It could not be started.
    NotStarted(String),
    /// It ended before, with this exit code; none after a signal.
    Ended(Option<i32>),
    /// It has not done what was waited for in time, and was killed. What was waited for gave this last.
    Late(String),
}

/// What came of a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signalled {
    /// When it was sent.
    pub at_ns: u64,
    /// To how many processes.
    pub processes: u64,
}
