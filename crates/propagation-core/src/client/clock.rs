//! Converting times of the agent's clock to the run's.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::lock;

/// Converts times of an agent's monotonic clock to microseconds of the run. Copies share the best reading of the
/// agent's clock.
#[derive(Debug, Clone)]
pub struct Clock {
    started: Instant,
    reading: Arc<Mutex<Reading>>,
}

/// The best reading of the agent's clock so far.
#[derive(Debug)]
struct Reading {
    round_trip_ns: i64,
    /// The agent's clock at the start of the run, in nanoseconds.
    zero_ns: i64,
}

impl Clock {
    /// The clock of a run that started at `started`, without a reading of the agent's clock.
    pub fn starting_at(started: Instant) -> Self {
        let reading = Reading { round_trip_ns: i64::MAX, zero_ns: 0 };
        Self { started, reading: Arc::new(Mutex::new(reading)) }
    }

    /// Time since the start of the run, in nanoseconds.
    pub fn elapsed_ns(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }

    /// Time since the start of the run, in microseconds.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.elapsed_ns() / 1_000).unwrap_or_default()
    }

    /// Takes a reading of the agent's clock that has just arrived and was requested at `asked_ns` of the run. The
    /// reading with the shortest round trip counts.
    pub fn take(&self, agent_ns: u64, asked_ns: i64) {
        let now_ns = self.elapsed_ns();
        let round_trip_ns = now_ns - asked_ns;
        let mut reading = lock(&self.reading);
        if round_trip_ns < reading.round_trip_ns {
            let agent_ns = i64::try_from(agent_ns).unwrap_or(i64::MAX);
            *reading = Reading { round_trip_ns, zero_ns: agent_ns - asked_ns.midpoint(now_ns) };
        }
    }

    /// Converts a time of the agent to microseconds of the run. The result is never later than now, because the
    /// agent reports only what has happened.
    pub fn micros(&self, at_ns: u64) -> u64 {
        let at_ns = i64::try_from(at_ns).unwrap_or(i64::MAX);
        let since = at_ns.saturating_sub(lock(&self.reading).zero_ns);
        u64::try_from(since.clamp(0, self.elapsed_ns()) / 1_000).unwrap_or_default()
    }
}
