//! The loop of an agent, on nodes of every kind: it waits for whatever happens next and blocks in nothing else.
//!
//! A [`World`] is the node that is served, simulated or real. What takes its time is a [`Job`].

mod calls;
mod in_child;
mod looks;
mod undo;
mod world;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::child::timeout;
use crate::sys::now_ns;

pub(crate) use calls::{begin, may_block};
pub(crate) use in_child::{InChild, in_child};
pub(crate) use undo::{take_back, unmount_own};
pub(crate) use world::{Begun, Job, Progress, World};

/// Jobs, with the numbers of their requests.
type Jobs<W> = Vec<(u64, Box<dyn Job<W>>)>;

/// Serves until nobody listens any more.
pub(crate) fn serve<W: World>(mut world: W) -> Result<(), Errno> {
    let mut jobs = Jobs::new();
    loop {
        for (id, call) in world.hear()? {
            match world.take(id, call, jobs.is_empty()) {
                Ok(Begun::Job(job)) => jobs.push((id, job)),
                Ok(Begun::Answered(reply)) => world.answer(id, Ok(reply)),
                Ok(Begun::Later) => {}
                Err(failure) => world.answer(id, Err(failure)),
            }
        }
        let now = now_ns();
        world.advance(now);
        jobs.retain_mut(|(id, job)| match job.advance(&mut world, now) {
            Progress::Unfinished => true,
            Progress::Finished(result) => {
                world.answer(*id, result);
                false
            }
        });
        if world.is_over() {
            return Ok(());
        }
        sleep(&world, &jobs)?;
    }
}

/// Sleeps until a descriptor is ready or a deadline passes.
fn sleep<W: World>(world: &W, jobs: &Jobs<W>) -> Result<(), Errno> {
    let waited_for = jobs.iter().flat_map(|(_, job)| job.descriptors(world));
    let descriptors = world.descriptors().into_iter().chain(waited_for);
    let mut descriptors: Vec<PollFd<'_>> =
        descriptors.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let wake = jobs.iter().filter_map(|(_, job)| job.deadline()).chain(world.deadline()).min();
    let wait = wake.map_or(PollTimeout::NONE, |at| timeout(at.saturating_sub(now_ns())));
    match poll(&mut descriptors, wait) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}
