//! Many at once: four players, a scan that begins again and again, and a writer.

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use propagation_protocol::measure::Measured;

use super::meter::Meter;
use super::{DataSet, directories, reads, writes};
use crate::child::Child;
use crate::failure::errno_name;

const PLAYERS: usize = 4;

/// How much the writer writes before it begins again, in bytes.
const WRITTEN_BYTES: u64 = 4 << 20;

/// Bytes, latencies and stalls are those of the players; failures are of all.
pub(super) fn measure(set: DataSet<'_>, bytes_per_s: u64, duration_ms: u64) -> Measured {
    let mut all = Measured::default();
    let media = set.media();
    let play = || reads::play(&media, bytes_per_s, duration_ms);
    let scan = || again(duration_ms, || directories::scan(&set.small_files()));
    let write = || again(duration_ms, || writes::sequential(&set.scratch(), WRITTEN_BYTES));
    let players = (0..PLAYERS).map(|_| start(play));
    let started: Vec<_> = players.chain([start(scan), start(write)]).collect();
    for (number, started) in started.into_iter().enumerate() {
        match started.and_then(finished) {
            Ok(measured) => add(&mut all, measured, number < PLAYERS),
            Err(errno) => *all.failed.entry(errno_name(errno)).or_default() += 1,
        }
    }
    all
}

fn start(work: impl FnOnce() -> Measured) -> Result<Child, nix::errno::Errno> {
    Child::start(|pipe| {
        // Whoever is given up must not leave it behind.
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        let _ = pipe.send(&work());
    })
}

fn finished(mut child: Child) -> Result<Measured, nix::errno::Errno> {
    let measured = child.pipe.receive::<Measured>()?;
    // Its usage counts once it is reaped.
    let _ = waitpid(child.pid, None);
    measured.ok_or(nix::errno::Errno::ECHILD)
}

/// Does it again until the time is over, or it fails.
fn again(duration_ms: u64, work: impl Fn() -> Measured) -> Measured {
    let meter = Meter::begin();
    loop {
        let measured = work();
        if !measured.failed.is_empty() || meter.elapsed_ns() >= duration_ms * 1_000_000 {
            return measured;
        }
    }
}

fn add(all: &mut Measured, one: Measured, is_player: bool) {
    for (errno, count) in one.failed {
        *all.failed.entry(errno).or_default() += count;
    }
    if !is_player {
        return;
    }
    all.operations += one.operations;
    all.bytes += one.bytes;
    all.stalls += one.stalls;
    all.elapsed_ns = all.elapsed_ns.max(one.elapsed_ns);
    all.first_byte_ns = all.first_byte_ns.max(one.first_byte_ns);
    for (value, count) in one.latencies {
        match all.latencies.binary_search_by_key(&value, |(value, _)| *value) {
            Ok(index) => all.latencies[index].1 += count,
            Err(index) => all.latencies.insert(index, (value, count)),
        }
    }
}
