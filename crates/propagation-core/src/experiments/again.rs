//! Changes that would remove a cause and may have healed nobody only because the machine was slow: each is tried once
//! more, with nothing beside it.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::apply;
use super::bench::Bench;
use crate::report::{Change, Report, Trial};

/// Tries the changes again that were short of time, those for good first, as long as none that removes a cause heals and
/// the limit of the run is not over. The first result of one that does not come to its end stays.
pub(super) async fn try_patiently(
    bench: Bench<'_>,
    report: &Report,
    trials: &mut [(Change, Trial)],
    begun: Instant,
    cancellation: &CancellationToken,
) {
    let over = cancellation.child_token();
    let left = time_left(report, begun.elapsed());
    if left.is_zero() {
        over.cancel();
    }
    let bench = bench.patient(report, over.clone());
    let end = tokio::time::sleep(left);
    tokio::pin!(end);
    let mut order: Vec<usize> = (0..trials.len()).collect();
    order.sort_by_key(|number| !apply::for_good(trials[*number].0.what));
    for number in order {
        let needless = one_heals(report, trials, apply::for_good(trials[number].0.what));
        let (change, trial) = &mut trials[number];
        let Trial::Tried(first) = trial else { continue };
        if needless {
            first.short_of_time = false;
        }
        if !first.short_of_time || over.is_cancelled() {
            continue;
        }
        let again = bench.try_alone(change, true, first.clone());
        tokio::pin!(again);
        *trial = tokio::select! {
            biased;
            () = &mut end => {
                over.cancel();
                again.await
            }
            again = &mut again => again,
        };
    }
}

/// Time for all of them: a few times that of the run itself, and no more than its limit has left.
fn time_left(report: &Report, since: Duration) -> Duration {
    let limit = Duration::from_millis(report.plan.deadlines.run_ms);
    let run = Duration::from_secs_f64(report.duration_ms.max(0.0) / 1e3);
    let enough = (10 * run).clamp(Duration::from_secs(5), Duration::from_secs(60));
    limit.saturating_sub(run).saturating_sub(since).min(enough)
}

/// Whether a change that removes a cause heals, by a change of the set-up where only that counts.
fn one_heals(report: &Report, trials: &[(Change, Trial)], for_good: bool) -> bool {
    trials.iter().any(|(change, trial)| {
        matches!(trial, Trial::Tried(tried) if tried.heals)
            && super::removes_a_cause(report, change)
            && (apply::for_good(change.what) || !for_good)
    })
}
