//! One visit to one transport: every piece of work runs once and gives values of metrics.

use std::collections::BTreeMap;

use propagation_core::Error;
use propagation_core::comparison::{Measure, Metric, Resources, Workload};
use propagation_core::protocol::measure::{Measured, Work};

use crate::bench::between;
use crate::options::Sizes;
use crate::stand::Stand;
use crate::statistics::{median, range};

/// What has been measured of one transport so far.
#[derive(Debug, Default)]
pub(crate) struct Account {
    measures: BTreeMap<Metric, Measure>,
    /// How often it has not answered since it last did.
    given_up: u32,
}

/// After so many times without an answer a transport is not asked again: each costs the whole deadline.
const GIVE_UPS: u32 = 2;

/// What is done in a visit, in order: cold before warm.
fn works(workloads: &[Workload], sizes: Sizes, seed: u64) -> Vec<(Metric, Work)> {
    let play = Work::Play { bytes_per_s: sizes.play_bytes_per_s, duration_ms: sizes.play_ms };
    let many = Work::Many { bytes_per_s: sizes.many_bytes_per_s, duration_ms: sizes.many_ms };
    let works = [
        (Metric::ScanCold, Work::Scan),
        (Metric::ScanWarm, Work::Scan),
        // Before the file is in the caches: opening it makes FUSE drop what there is of it.
        (Metric::FirstByte, play),
        (Metric::SequentialRate, Work::Sequential { bytes: sizes.media_bytes }),
        (Metric::Seek, Work::Seek { operations: sizes.seeks, seed }),
        (Metric::Open, Work::Open { operations: sizes.opens, seed }),
        (Metric::WriteRate, Work::Write { bytes: sizes.write_bytes }),
        (Metric::SmallFile, Work::SmallFiles { operations: sizes.small_files }),
        (Metric::ManyRead, many),
    ];
    works.into_iter().filter(|(metric, _)| workloads.contains(&metric.workload())).collect()
}

/// Visits a transport once.
///
/// # Errors
/// When the node fails. What the transport does is measured.
pub(crate) async fn visit(
    stand: &Stand<'_>,
    workloads: &[Workload],
    sizes: Sizes,
    seed: u64,
    account: &mut Account,
) -> Result<(), Error> {
    // Where it does not come back, every work of the visit gives nothing.
    let mut is_mounted = true;
    let mut before = stand.account().await?;
    for (metric, work) in works(workloads, sizes, seed) {
        if metric == Metric::ScanCold && account.is_asked() {
            is_mounted = stand.remount().await?.is_ok();
            account.given_up += u32::from(!is_mounted);
            before = stand.account().await?;
        }
        let measured = match is_mounted && account.is_asked() {
            true => stand.measure(sizes, work).await?,
            false => Measured { hung: true, ..Measured::default() },
        };
        let after = stand.account().await?;
        let server = between(&before, &after);
        before = after;
        if is_mounted {
            account.answered(!measured.hung);
        }
        account.add(metric, measured, sizes, server);
    }
    Ok(())
}

impl Account {
    /// Whether it is worth asking.
    fn is_asked(&self) -> bool {
        self.given_up < GIVE_UPS
    }

    fn answered(&mut self, has: bool) {
        self.given_up = if has { 0 } else { self.given_up + 1 };
    }

    fn add(&mut self, metric: Metric, measured: Measured, sizes: Sizes, server: Resources) {
        let measure = self.measures.entry(metric).or_insert_with(|| Measure::of(metric));
        measure.operations += measured.operations;
        measure.bytes += measured.bytes;
        measure.stalls += measured.stalls;
        measure.gave_up += u32::from(measured.hung);
        for (errno, count) in &measured.failed {
            *measure.failed.entry(errno.clone()).or_default() += count;
        }
        let used = measured.used;
        add(
            &mut measure.client,
            Resources {
                cpu_ms: used.cpu_ns as f64 / 1e6,
                kernel_ms: used.kernel_ns as f64 / 1e6,
                switches: used.switches,
                peak_bytes: used.peak_bytes,
            },
        );
        add(&mut measure.server, server);
        // A value counts only where all was done.
        let mut single = Measure { latencies: measured.latencies.clone(), ..Measure::of(metric) };
        let whole = measured.failed.is_empty() && !measured.hung && measured.operations > 0;
        measure.samples.push(if whole { value(&single, &measured, sizes) } else { None });
        for (value, count) in single.latencies.drain(..) {
            match measure.latencies.binary_search_by_key(&value, |(value, _)| *value) {
                Ok(index) => measure.latencies[index].1 += count,
                Err(index) => measure.latencies.insert(index, (value, count)),
            }
        }
    }

    /// What has been measured, with its medians.
    pub(crate) fn finish(self) -> Vec<Measure> {
        let finish = |mut measure: Measure| {
            let values: Vec<f64> = measure.samples.iter().flatten().copied().collect();
            measure.median = median(&values);
            measure.range = range(&values);
            measure
        };
        self.measures.into_values().map(finish).collect()
    }
}

/// The value of a metric, from one piece of work.
fn value(single: &Measure, measured: &Measured, sizes: Sizes) -> Option<f64> {
    const MIB: f64 = 1_048_576.0;
    let elapsed_ms = measured.elapsed_ns as f64 / 1e6;
    match single.metric {
        Metric::SequentialRate | Metric::WriteRate => {
            Some(measured.bytes as f64 / MIB / (elapsed_ms / 1e3))
        }
        Metric::FirstByte => Some(measured.first_byte_ns as f64 / 1e6),
        Metric::Seek | Metric::Open | Metric::SmallFile => single.quantile_us(0.5),
        Metric::ScanCold | Metric::ScanWarm => {
            (measured.operations == sizes.entries).then_some(elapsed_ms)
        }
        Metric::ManyRead => single.quantile_us(0.99).map(|us| us / 1e3),
    }
}

fn add(sum: &mut Resources, one: Resources) {
    sum.cpu_ms += one.cpu_ms;
    sum.kernel_ms += one.kernel_ms;
    sum.switches += one.switches;
    sum.peak_bytes = sum.peak_bytes.max(one.peak_bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_gives_no_value_and_is_counted() {
        let sizes = crate::Options::quick().sizes();
        let mut account = Account::default();
        let good = Measured {
            operations: 4,
            bytes: 2 << 20,
            elapsed_ns: 500_000_000,
            latencies: vec![(1_000, 4)],
            ..Measured::default()
        };
        let bad = Measured { failed: BTreeMap::from([("EIO".to_owned(), 1)]), ..good.clone() };
        for measured in [good, bad, Measured { hung: true, ..Measured::default() }] {
            account.add(Metric::SequentialRate, measured, sizes, Resources::default());
        }
        let measure = account.finish().remove(0);
        assert_eq!(measure.samples, [Some(4.0), None, None]);
        assert_eq!((measure.median, measure.range), (Some(4.0), Some((4.0, 4.0))));
        assert_eq!((measure.failed.get("EIO"), measure.gave_up), (Some(&1), 1));
        assert_eq!(measure.latencies, [(1_000, 8)]);
    }

    #[test]
    fn what_has_not_answered_twice_in_a_row_is_not_asked_again() {
        let mut account = Account::default();
        for has in [false, true, false] {
            account.answered(has);
            assert!(account.is_asked());
        }
        account.answered(false);
        assert!(!account.is_asked());
    }

    #[test]
    fn a_scan_of_less_than_all_gives_no_value() {
        let sizes = crate::Options::quick().sizes();
        let mut account = Account::default();
        let part = Measured { operations: 3, elapsed_ns: 1, ..Measured::default() };
        account.add(Metric::ScanCold, part, sizes, Resources::default());
        assert_eq!(account.finish()[0].samples, [None]);
    }
}
