//! Measurements of transports, and the ratio of two of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Transport, Workload};

/// A metric of a workload.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Sequential reading.
    SequentialRate,
    /// Time from the opening of a file to its first byte, as a player sees it.
    FirstByte,
    /// A read of 64 KiB at a random place, the median.
    Seek,
    /// A directory listed with attributes, after a remount.
    ScanCold,
    /// The same directory listed again.
    ScanWarm,
    /// A small file opened, read and closed, the median.
    Open,
    /// Sequential writing, with the sync at its end.
    WriteRate,
    /// A small file written, synced and renamed, the median.
    SmallFile,
    /// A read of one player under mixed load, the 99th percentile.
    ManyRead,
}

impl Metric {
    /// All metrics, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::SequentialRate,
        Self::FirstByte,
        Self::Seek,
        Self::ScanCold,
        Self::ScanWarm,
        Self::Open,
        Self::WriteRate,
        Self::SmallFile,
        Self::ManyRead,
    ];

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::SequentialRate => "sequential read",
            Self::FirstByte => "first byte",
            Self::Seek => "seek, 64 KiB",
            Self::ScanCold => "scan, cold",
            Self::ScanWarm => "scan, warm",
            Self::Open => "open, 4 KiB",
            Self::WriteRate => "sequential write",
            Self::SmallFile => "small file, synced",
            Self::ManyRead => "read among many, p99",
        }
    }

    /// Its unit.
    pub fn unit(self) -> &'static str {
        match self {
            Self::SequentialRate | Self::WriteRate => "MiB/s",
            Self::ScanCold | Self::ScanWarm | Self::FirstByte | Self::ManyRead => "ms",
            Self::Seek | Self::Open | Self::SmallFile => "µs",
        }
    }

    /// Whether a larger value is better.
    pub fn more_is_better(self) -> bool {
        matches!(self, Self::SequentialRate | Self::WriteRate)
    }

    /// The workload that it belongs to.
    pub fn workload(self) -> Workload {
        match self {
            Self::SequentialRate => Workload::Sequential,
            Self::FirstByte => Workload::Play,
            Self::Seek => Workload::Seek,
            Self::ScanCold | Self::ScanWarm => Workload::Scan,
            Self::Open => Workload::Open,
            Self::WriteRate | Self::SmallFile => Workload::Write,
            Self::ManyRead => Workload::Many,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.title())
    }
}

/// Measurement of one metric on one transport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Measure {
    /// The metric.
    pub metric: Metric,
    /// One value for each round, in the metric's unit, in the order of rounds; `None` where the work failed
    /// or did not end.
    pub samples: Vec<Option<f64>>,
    /// The median of the values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median: Option<f64>,
    /// The smallest and the largest of the values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<(f64, f64)>,
    /// Ratio to the native transport.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against_native: Option<Ratio>,
    /// Latencies of single operations: pairs of nanoseconds and counts, in two significant digits.
    pub latencies: Vec<(u64, u64)>,
    /// Operations that failed, by errno.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, u64>,
    /// Number of rounds in which the work did not end in time.
    pub gave_up: u32,
    /// How often a player had to wait.
    pub stalls: u64,
    /// Number of operations, over all rounds.
    pub operations: u64,
    /// Bytes read or written, over all rounds.
    pub bytes: u64,
    /// Resources that the measuring processes used, over all rounds.
    pub client: Resources,
    /// Resources that the transport's programs used, over all rounds.
    pub server: Resources,
}

impl Measure {
    /// A quantile of the latencies in microseconds, `share` from 0 to 1.
    ///
    /// ```
    /// # use propagation_model::comparison::{Measure, Metric};
    /// let mut measure = Measure::of(Metric::Open);
    /// measure.latencies = vec![(1_000, 98), (9_000, 1), (50_000, 1)];
    /// assert_eq!(measure.quantile_us(0.5), Some(1.0));
    /// assert_eq!(measure.quantile_us(0.99), Some(9.0));
    /// ```
    pub fn quantile_us(&self, share: f64) -> Option<f64> {
        let all: u64 = self.latencies.iter().map(|(_, count)| count).sum();
        let wanted = ((all as f64) * share.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        let reached = self.latencies.iter().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        reached.map(|(value, _)| *value as f64 / 1e3)
    }

    /// A measurement without values.
    pub fn of(metric: Metric) -> Self {
        Self {
            metric,
            samples: Vec::new(),
            median: None,
            range: None,
            against_native: None,
            latencies: Vec::new(),
            failed: BTreeMap::new(),
            gave_up: 0,
            stalls: 0,
            operations: 0,
            bytes: 0,
            client: Resources::default(),
            server: Resources::default(),
        }
    }
}

/// Resources that processes used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Resources {
    /// Processor time in milliseconds.
    pub cpu_ms: f64,
    /// Of that, time in the kernel; counted in ticks of 10 ms for servers.
    pub kernel_ms: f64,
    /// Number of context switches.
    pub switches: u64,
    /// Peak resident memory in bytes, summed over processes.
    pub peak_bytes: u64,
}

/// How many times as good one measurement is as another: above 1 it is better, whatever the metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Ratio {
    /// The median over rounds.
    pub median: f64,
    /// Where the 95 % bootstrap interval begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
    /// Number of rounds.
    pub rounds: u32,
}

/// Direction of a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tendency {
    /// The whole interval lies above 1.
    Better,
    /// The whole interval lies below 1.
    Worse,
    /// The interval holds 1, or there are too few rounds to say: no difference is shown.
    NoDifference,
}

impl Ratio {
    /// Fewest rounds that can show a difference: with fewer, chance alone puts all on one side too often, in four
    /// rounds one time in eight.
    pub const LEAST_ROUNDS: u32 = 5;

    /// The direction of the ratio.
    ///
    /// ```
    /// use propagation_model::comparison::{Ratio, Tendency};
    ///
    /// let ratio = Ratio { median: 1.2, low: 1.1, high: 1.4, rounds: 7 };
    /// assert_eq!(ratio.tendency(), Tendency::Better);
    /// assert_eq!(Ratio { low: 0.9, ..ratio }.tendency(), Tendency::NoDifference);
    /// assert_eq!(Ratio { rounds: 3, ..ratio }.tendency(), Tendency::NoDifference);
    /// ```
    pub fn tendency(&self) -> Tendency {
        if self.rounds < Self::LEAST_ROUNDS {
            Tendency::NoDifference
        } else if self.low > 1.0 {
            Tendency::Better
        } else if self.high < 1.0 {
            Tendency::Worse
        } else {
            Tendency::NoDifference
        }
    }
}

/// One transport against another, by one metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Versus {
    /// The first transport.
    pub transport: Transport,
    /// The transport that it is compared with.
    pub against: Transport,
    /// The metric.
    pub metric: Metric,
    /// How many times as good the first is.
    pub ratio: Ratio,
}
