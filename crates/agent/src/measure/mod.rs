//! Measures a filesystem from inside a container: work on a data set, and its times.
//!
//! The work runs in a child that can be given up: a filesystem without its server may never answer.

mod dataset;
mod die;
mod directories;
mod many;
mod meter;
mod reads;
mod writes;

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use propagation_protocol::measure::{
    ENTRIES_DIRECTORY, MEDIA_FILE, Measured, SCRATCH_DIRECTORY, Task, Used, Work,
};

use crate::child::within;

pub use dataset::make as make_data_set;

/// Does a piece of work and says what it took.
///
/// # Errors
/// When no child can be made. What the filesystem does is a result.
pub fn measure(task: &Task) -> Result<Measured, Errno> {
    let set = DataSet { directory: Path::new(&task.directory), entries: task.entries };
    if let Work::Die { duration_ms, seed } = task.work {
        return die::measure(set, duration_ms, task.deadline_ms, seed);
    }
    let measured = within(task.deadline_ms, || {
        let measured = work(set, &task.work);
        Measured { used: used(), ..measured }
    })?;
    Ok(measured.unwrap_or_else(|| Measured { hung: true, ..Measured::default() }))
}

fn work(set: DataSet<'_>, work: &Work) -> Measured {
    match *work {
        Work::Sequential { bytes } => reads::sequential(&set.media(), bytes),
        Work::Play { bytes_per_s, duration_ms } => {
            reads::play(&set.media(), bytes_per_s, duration_ms)
        }
        Work::Seek { operations, seed } => reads::seek(&set.media(), operations, seed),
        Work::Scan => directories::scan(&set.small_files()),
        Work::Open { operations, seed } => directories::open(set, operations, seed),
        Work::Write { bytes } => writes::sequential(&set.scratch(), bytes),
        Work::SmallFiles { operations } => writes::small_files(&set.scratch(), operations),
        Work::Many { bytes_per_s, duration_ms } => many::measure(set, bytes_per_s, duration_ms),
        // Has children of its own.
        Work::Die { .. } => Measured::default(),
    }
}

/// Where the data set is.
#[derive(Debug, Clone, Copy)]
struct DataSet<'a> {
    directory: &'a Path,
    entries: u64,
}

impl DataSet<'_> {
    fn media(&self) -> PathBuf {
        self.directory.join(MEDIA_FILE)
    }

    fn small_files(&self) -> PathBuf {
        self.directory.join(ENTRIES_DIRECTORY)
    }

    fn scratch(&self) -> PathBuf {
        self.directory.join(SCRATCH_DIRECTORY)
    }
}

/// What this process and its children that have ended used.
fn used() -> Used {
    let whose = [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN];
    let mut used = Used { processes: 1, ..Used::default() };
    for usage in whose.into_iter().filter_map(|who| getrusage(who).ok()) {
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        let ns = |time: nix::sys::time::TimeVal| {
            count(time.tv_sec()) * 1_000_000_000 + count(time.tv_usec()) * 1_000
        };
        used.cpu_ns += ns(usage.user_time()) + ns(usage.system_time());
        used.kernel_ns += ns(usage.system_time());
        used.switches +=
            count(usage.voluntary_context_switches()) + count(usage.involuntary_context_switches());
        used.peak_bytes = used.peak_bytes.max(count(usage.max_rss()) * 1024);
    }
    used
}

/// Numbers that look random, the same for the same seed (splitmix64, Steele et al. 2014).
#[derive(Debug, Clone)]
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// One below `limit`, which is at least 1.
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn measured(directory: &Path, work: Work) -> Measured {
        let directory = directory.to_string_lossy().into_owned();
        measure(&Task { directory, entries: 32, deadline_ms: 20_000, work }).expect("measured")
    }

    #[test]
    fn every_work_counts_what_it_does() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        make_data_set(path, 32, 1 << 20).expect("room");
        let sequential = measured(path, Work::Sequential { bytes: u64::MAX });
        assert_eq!((sequential.bytes, sequential.operations), (1 << 20, 8));
        assert!(sequential.first_byte_ns > 0 && sequential.elapsed_ns > 0, "{sequential:?}");
        assert_eq!(measured(path, Work::Seek { operations: 5, seed: 1 }).bytes, 5 * 65_536);
        assert_eq!(measured(path, Work::Scan).operations, 32);
        assert_eq!(measured(path, Work::Open { operations: 7, seed: 1 }).operations, 7);
        assert_eq!(measured(path, Work::Write { bytes: 300_000 }).bytes, 300_000);
        assert_eq!(measured(path, Work::SmallFiles { operations: 20 }).operations, 20);
        let played = measured(path, Work::Play { bytes_per_s: 4 << 20, duration_ms: 100 });
        assert!(played.elapsed_ns >= 90_000_000 && played.bytes >= 1 << 18, "{played:?}");
        let many = measured(path, Work::Many { bytes_per_s: 4 << 20, duration_ms: 60 });
        assert!(many.bytes > 0 && many.failed.is_empty(), "{many:?}");
        let all = many.latencies.iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!(all, many.operations);
    }

    #[test]
    fn what_fails_is_counted_by_errno() {
        let directory = tempfile::tempdir().expect("a directory");
        for work in [
            Work::Sequential { bytes: 1 },
            Work::Scan,
            Work::Open { operations: 1, seed: 0 },
            Work::Write { bytes: 1 },
        ] {
            let measured = measured(directory.path(), work);
            assert_eq!(measured.operations, 0, "{measured:?}");
            assert_eq!(measured.failed.get("ENOENT"), Some(&1), "{measured:?}");
        }
    }

    #[test]
    fn what_is_given_up_leaves_nobody_behind() {
        let directory = tempfile::tempdir().expect("a directory");
        make_data_set(directory.path(), 32, 1 << 20).expect("room");
        // Who opens a pipe that nobody writes waits for ever.
        let media = directory.path().join(MEDIA_FILE);
        std::fs::remove_file(&media).expect("it was there");
        nix::unistd::mkfifo(&media, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        // All children inherit the one end: the other one closes with the last of them.
        let (ours, theirs) = nix::unistd::pipe().expect("a pipe");
        let task = Task {
            directory: directory.path().to_string_lossy().into_owned(),
            entries: 32,
            deadline_ms: 300,
            work: Work::Many { bytes_per_s: 1 << 20, duration_ms: 50 },
        };
        assert!(measure(&task).expect("measured").hung);
        drop(theirs);
        let mut ends = [PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
        let closed = poll(&mut ends, PollTimeout::from(30_000_u16)).expect("it is waited for");
        assert_eq!(closed, 1, "players go on after their deadline");
    }

    #[test]
    fn accesses_are_stretches_of_one_outcome() {
        let directory = tempfile::tempdir().expect("a directory");
        make_data_set(directory.path(), 32, 1 << 20).expect("room");
        let died = measured(directory.path(), Work::Die { duration_ms: 100, seed: 3 });
        for stretches in [&died.fresh, &died.held] {
            assert!(stretches.iter().any(|one| one.operations > 3), "{stretches:?}");
            let gap = stretches.windows(2).find(|two| two[0].until_ns > two[1].from_ns);
            assert_eq!(gap, None);
        }
    }

    #[test]
    fn numbers_follow_from_their_seed() {
        let draw = |seed| [(); 3].map(|()| Numbers(seed).below(1_000_000));
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
