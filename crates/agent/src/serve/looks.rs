//! Looking from many places: in children, because every look may hang.

use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use propagation_model::marker::Marker;
use propagation_model::observation::{Access, Outcome};
use propagation_model::plan::User;
use propagation_protocol::{Failure, Look, MOST_LOOKS_AT_ONCE, Reply, Seen};

use super::world::{Job, Progress, World};
use crate::child::Child;
use crate::failure::{errno_name, system};
use crate::look::{Spot, look};
use crate::sys::{in_ms, now_ns};

/// More looks than this are shared out to two children: one for each core of a small machine.
const SHARED_OUT: usize = 64;

/// Looks that are being taken.
pub(super) struct Looks {
    looks: Vec<Look>,
    /// Which look, as which of its users.
    items: Vec<(usize, User)>,
    access: Access,
    expect: Vec<Marker>,
    deadline_ms: u64,
    seen: Vec<Option<Seen>>,
    queue: VecDeque<Range<usize>>,
    /// How many children look at a time, before a look has hung.
    shares: usize,
    hung: bool,
    active: Vec<Active>,
}

/// A child, and the looks that it is to take.
struct Active {
    child: Child,
    left: Range<usize>,
    deadline: u64,
}

impl Looks {
    pub(super) fn begin<W: World>(
        world: &mut W,
        looks: Vec<Look>,
        access: Access,
        expect: Vec<Marker>,
        deadline_ms: u64,
    ) -> Result<Self, Failure> {
        let mut apart = false;
        for look in &looks {
            apart |= world.view_of(&look.place)?.user.is_some();
        }
        let items: Vec<(usize, User)> = looks
            .iter()
            .enumerate()
            .flat_map(|(index, look)| look.users.iter().map(move |user| (index, user.clone())))
            .collect();
        let count = items.len();
        let shares = if count > SHARED_OUT { 2 } else { 1 };
        // A child that has entered a user namespace looks nowhere else.
        let parts = if apart { count.max(1) } else { shares };
        let queue = (0..parts).map(|n| n * count / parts..(n + 1) * count / parts).collect();
        let (seen, hung, active) = (vec![None; count], false, Vec::new());
        world.stuck_mut().1.forget_ended();
        let mut begun =
            Self { looks, items, access, expect, deadline_ms, seen, queue, shares, hung, active };
        begun.start_children(world).inspect_err(|_| begun.give_up())?;
        Ok(begun)
    }

    fn give_up(&self) {
        self.active.iter().for_each(|one| one.child.give_up());
    }

    /// Takes what the children have seen so far.
    fn take_seen<W: World>(&mut self, world: &mut W, now: u64) {
        for mut one in std::mem::take(&mut self.active) {
            let open = one.child.pipe.fill(false).unwrap_or(false);
            while let Some(index) = (!one.left.is_empty()).then_some(one.left.start)
                && let Ok(Some(seen)) = one.child.pipe.next::<Seen>()
            {
                self.seen[index] = Some(seen);
                one.left.start += 1;
                one.deadline = in_ms(self.deadline_ms);
            }
            if one.left.is_empty() {
                continue;
            }
            match () {
                () if !open => {
                    let reason = "the child that looks died".into();
                    self.go_on_after(one.left, Outcome::Skipped { reason });
                }
                () if one.deadline <= now => {
                    self.hung = true;
                    let mount_point = &self.looks[self.items[one.left.start].0].mount_point;
                    let (proc, stuck) = world.stuck_mut();
                    stuck.give_up(proc, one.child, mount_point, self.access);
                    let after_ms = self.deadline_ms;
                    self.go_on_after(one.left, Outcome::Hang { after_ms });
                }
                () => self.active.push(one),
            }
        }
    }

    /// The first of these looks came to no end. Those after it get a child each, so that they hang, if they do, at
    /// the same time.
    fn go_on_after(&mut self, mut left: Range<usize>, outcome: Outcome) {
        if let Some(index) = left.next() {
            self.seen[index] = Some(nothing_seen(&self.items[index].1, outcome));
        }
        self.queue.extend(left.map(|index| index..index + 1));
    }

    fn start_children<W: World>(&mut self, world: &W) -> Result<(), Failure> {
        // Until a look hangs there are as many as shares: of those that hang together each would stay.
        let most = if self.hung { MOST_LOOKS_AT_ONCE } else { self.shares };
        while self.active.len() < most
            && let Some(left) = self.queue.pop_front()
        {
            if left.is_empty() {
                continue;
            }
            let child = Child::start(|pipe| {
                for index in left.clone() {
                    let seen = self.look_at(world, index);
                    if pipe.send(&seen).is_err() {
                        return;
                    }
                }
            });
            let child = child.map_err(|errno| system("start a child that looks", errno))?;
            let deadline = in_ms(self.deadline_ms);
            self.active.push(Active { child, left, deadline });
        }
        Ok(())
    }

    /// In a child: enters the place and looks.
    fn look_at<W: World>(&self, world: &W, index: usize) -> Seen {
        let (which, user) = &self.items[index];
        let what = &self.looks[*which];
        let entered = world.view_of(&what.place).map_err(|failure| failure.reason);
        let entered = entered.and_then(|view| {
            view.enter()
                .map_err(|errno| format!("enter the mount namespace: {}", errno_name(errno)))
        });
        match entered {
            Ok(()) => {
                world.stuck().wait(world.proc(), &what.mount_point, self.access);
                look(world.proc(), Spot::of(what), self.access, Some(user), &self.expect)
            }
            Err(reason) => nothing_seen(user, Outcome::Skipped { reason }),
        }
    }
}

impl<W: World> Job<W> for Looks {
    fn descriptors<'a>(&'a self, _: &'a W) -> Vec<BorrowedFd<'a>> {
        self.active.iter().map(|one| one.child.pipe.as_fd()).collect()
    }

    fn deadline(&self) -> Option<u64> {
        self.active.iter().map(|one| one.deadline).min()
    }

    fn advance(&mut self, world: &mut W, now: u64) -> Progress {
        self.take_seen(world, now);
        if let Err(failure) = self.start_children(world) {
            self.give_up();
            return Progress::Finished(Err(failure));
        }
        if !self.active.is_empty() || !self.queue.is_empty() {
            return Progress::Unfinished;
        }
        let seen = std::mem::take(&mut self.seen).into_iter().flatten().collect();
        Progress::Finished(Ok(Reply::Observed { seen }))
    }
}

/// The result of a look that did not come to an end.
fn nothing_seen(user: &User, outcome: Outcome) -> Seen {
    let took_ns = match outcome {
        Outcome::Hang { after_ms } => after_ms.saturating_mul(1_000_000),
        _ => 0,
    };
    Seen { uid: user.uid, at_ns: now_ns(), took_ns, outcome, generation: None, mount: None }
}
