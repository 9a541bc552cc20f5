//! Using a filesystem while its server dies and comes back: what accesses give, and when.
//!
//! Two children use it: one opens a file each time, one keeps reading a file that it has opened once. Each
//! reports every access when the access ends, so that a hanging access shows too.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use propagation_protocol::measure::{Gave, Measured, SLOW_NS, Stretch, entry_name};
use serde::{Deserialize, Serialize};

use super::meter::pause_until;
use super::{DataSet, Numbers, directories};
use crate::child::{Child, timeout};
use crate::failure::errno_name;
use crate::mounts::errno_of;
use crate::sys::{in_ms, now_ns};

/// The pause between two accesses.
const PAUSE_NS: u64 = 4_000_000;

/// How much of the held file is read at a time, in bytes.
const HELD_BYTES: u64 = 64 * 1024;

/// So many stretches are told of each child at the most: what the agent prints is cut beyond 64 KiB, and the
/// two children's have to fit.
const STRETCHES: usize = 128;

/// One access.
#[derive(Debug, Serialize, Deserialize)]
struct Access {
    from_ns: u64,
    until_ns: u64,
    errno: Option<String>,
}

/// Uses the data set for a time. An access that has not ended at `deadline_ms` hangs.
pub(super) fn measure(
    set: DataSet<'_>,
    duration_ms: u64,
    deadline_ms: u64,
    seed: u64,
) -> Result<Measured, Errno> {
    let began_ns = now_ns();
    let (until_ns, give_up_ns) = (in_ms(duration_ms), in_ms(deadline_ms.max(duration_ms)));
    let children = [
        Child::start(|pipe| {
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            let mut numbers = Numbers(seed);
            let directory = set.small_files();
            repeat(until_ns, &pipe, || {
                directories::read_whole(&directory.join(entry_name(numbers.below(set.entries))))
            });
        })?,
        Child::start(|pipe| {
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            let mut held = Held::open(&set.media());
            repeat(until_ns, &pipe, || held.read_on());
        })?,
    ];
    let [fresh, held] = collect(children, began_ns, give_up_ns)?;
    let count = |stretches: &[Stretch], counts: fn(&Gave) -> bool| -> u64 {
        stretches.iter().filter(|one| counts(&one.gave)).map(|one| one.operations).sum()
    };
    let mut measured = Measured { elapsed_ns: now_ns() - began_ns, ..Measured::default() };
    for stretches in [&fresh, &held] {
        measured.operations += count(stretches, |gave| matches!(gave, Gave::Ok | Gave::Slow));
        for stretch in stretches {
            if let Gave::Errno(errno) = &stretch.gave {
                *measured.failed.entry(errno.clone()).or_default() += stretch.operations;
            }
            measured.hung |= stretch.gave == Gave::Hang;
        }
    }
    Ok(Measured { fresh, held, ..measured })
}

/// Makes accesses, one after the other, and tells of each.
fn repeat(until_ns: u64, pipe: &crate::pipe::Pipe, mut access: impl FnMut() -> io::Result<u64>) {
    while now_ns() < until_ns {
        let from_ns = now_ns();
        let errno = access().err().map(|error| errno_name(errno_of(&error)));
        let access = Access { from_ns, until_ns: now_ns(), errno };
        if pipe.send(&access).is_err() {
            return;
        }
        pause_until(access.until_ns + PAUSE_NS);
    }
}

/// The file that was opened before.
struct Held {
    file: io::Result<File>,
    offset: u64,
}

impl Held {
    fn open(path: &Path) -> Self {
        Self { file: File::open(path), offset: 0 }
    }

    fn read_on(&mut self) -> io::Result<u64> {
        let file = match &self.file {
            Ok(file) => file,
            Err(error) => return Err(errno_of(error).into()),
        };
        let mut block = [0; HELD_BYTES as usize];
        match file.read_at(&mut block, self.offset)? {
            0 => self.offset = 0,
            length => self.offset += length as u64,
        }
        Ok(HELD_BYTES)
    }
}

/// What both children tell, until they have ended or are given up.
fn collect(
    mut children: [Child; 2],
    began_ns: u64,
    give_up_ns: u64,
) -> Result<[Vec<Stretch>; 2], Errno> {
    let mut told = [Vec::new(), Vec::new()];
    loop {
        for (child, stretches) in children.iter_mut().zip(&mut told) {
            child.pipe.fill(false)?;
            while let Some(access) = child.pipe.next::<Access>()? {
                add(stretches, access);
            }
        }
        let open: Vec<_> = children.iter().filter(|child| !child.pipe.is_closed()).collect();
        let left = give_up_ns.saturating_sub(now_ns());
        if open.is_empty() || left == 0 {
            break;
        }
        let mut descriptors: Vec<_> =
            open.iter().map(|child| PollFd::new(child.pipe.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut descriptors, timeout(left)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    for (child, stretches) in children.iter().zip(&mut told) {
        child.give_up();
        if !child.pipe.is_closed() {
            let from_ns = stretches.last().map_or(began_ns, |last: &Stretch| last.until_ns);
            let until_ns = now_ns();
            stretches.push(stretch(from_ns, until_ns, Gave::Hang));
        }
    }
    Ok(told)
}

fn add(stretches: &mut Vec<Stretch>, access: Access) {
    let took_ns = access.until_ns.saturating_sub(access.from_ns);
    let gave = match access.errno {
        Some(errno) => Gave::Errno(errno),
        None if took_ns > SLOW_NS => Gave::Slow,
        None => Gave::Ok,
    };
    match stretches.last_mut().filter(|last| last.gave == gave) {
        Some(last) => {
            last.until_ns = access.until_ns;
            last.operations += 1;
            last.longest_ns = last.longest_ns.max(took_ns);
        }
        None => {
            stretches.push(stretch(access.from_ns, access.until_ns, gave));
            shorten(stretches);
        }
    }
}

/// Where there are too many, two in the middle become one: how it began and how it ended stay exact.
fn shorten(stretches: &mut Vec<Stretch>) {
    const MIDDLE: usize = STRETCHES / 2;
    if stretches.len() <= STRETCHES {
        return;
    }
    let next = stretches.remove(MIDDLE + 1);
    let one = &mut stretches[MIDDLE];
    one.until_ns = next.until_ns;
    one.operations += next.operations;
    one.longest_ns = one.longest_ns.max(next.longest_ns);
    if badness(&next.gave) > badness(&one.gave) {
        one.gave = next.gave;
    }
}

fn badness(gave: &Gave) -> u8 {
    match gave {
        Gave::Ok => 0,
        Gave::Slow => 1,
        Gave::Errno(_) => 2,
        Gave::Hang => 3,
    }
}

/// A stretch of one access.
fn stretch(from_ns: u64, until_ns: u64, gave: Gave) -> Stretch {
    let longest_ns = until_ns.saturating_sub(from_ns);
    Stretch { from_ns, first_until_ns: until_ns, until_ns, gave, operations: 1, longest_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_that_changes_all_the_time_is_told_in_bounds() {
        let mut stretches = Vec::new();
        let accesses = 5_000;
        for number in 0..accesses {
            let from_ns = 1_000_000_000_000_000 + number * 4_000_000;
            let errno = (number % 2 == 0).then(|| "ECONNABORTED".to_owned());
            add(&mut stretches, Access { from_ns, until_ns: from_ns + 1_000, errno });
        }
        assert_eq!(stretches.len(), STRETCHES);
        assert_eq!(stretches.iter().map(|one| one.operations).sum::<u64>(), accesses);
        assert!(stretches.windows(2).all(|two| two[0].until_ns <= two[1].from_ns));
        assert_eq!(stretches[STRETCHES / 2].gave, Gave::Errno("ECONNABORTED".into()));
        assert_eq!(stretches.last().map(|last| &last.gave), Some(&Gave::Ok));
        let measured =
            Measured { fresh: stretches.clone(), held: stretches, ..Measured::default() };
        let printed = serde_json::to_string(&measured).expect("JSON");
        assert!(printed.len() < 60_000, "{}", printed.len());
    }
}
