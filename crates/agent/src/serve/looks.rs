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

/// A look that takes longer than this, in milliseconds, does not delay those after it.
const SLOW_MS: u64 = 100;

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
    active: Vec<Active>,
}

/// A child, and the looks that it is to take.
struct Active {
    child: Child,
    left: Range<usize>,
    /// When the present look is slow, and when it hangs.
    slow: u64,
    deadline: u64,
}

impl Looks {
    pub(super) fn begin<W: World>(
        world: &W,
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
        let shares = match count {
            // A child that has entered a user namespace looks nowhere else.
            _ if apart => count.max(1),
            count if count > SHARED_OUT => 2,
            _ => 1,
        };
        let (seen, queue) = (vec![None; count], VecDeque::new());
        let active = Vec::new();
        let mut begun = Self { looks, items, access, expect, deadline_ms, seen, queue, active };
        begun.share_out(0..count, shares);
        begun.start_children(world).inspect_err(|_| begun.give_up())?;
        Ok(begun)
    }

    fn give_up(&self) {
        self.active.iter().for_each(|one| one.child.give_up());
    }

    /// Shares looks out to children that are still to be started.
    fn share_out(&mut self, items: Range<usize>, shares: usize) {
        let (start, count) = (items.start, items.len());
        let share = |n| start + n * count / shares..start + (n + 1) * count / shares;
        self.queue.extend((0..shares).map(share).filter(|share| !share.is_empty()));
    }

    /// Takes what the children have seen so far.
    fn take_seen(&mut self, now: u64) {
        for mut one in std::mem::take(&mut self.active) {
            let open = one.child.pipe.fill(false).unwrap_or(false);
            let mut more = true;
            while more && !one.left.is_empty() {
                match one.child.pipe.next::<Seen>() {
                    Ok(Some(seen)) => {
                        self.seen[one.left.start] = Some(seen);
                        one.left.start += 1;
                        (one.slow, one.deadline) = self.instants();
                    }
                    Ok(None) | Err(_) => more = false,
                }
            }
            let Range { start, end } = one.left;
            if start == end {
                // It may be at a look that was given to another one meanwhile.
                if open {
                    one.child.give_up();
                }
                continue;
            }
            let given_up = match () {
                () if !open => {
                    let reason = "the child that looks died".into();
                    Some(Outcome::Skipped { reason })
                }
                () if one.deadline <= now => Some(Outcome::Hang { after_ms: self.deadline_ms }),
                () => None,
            };
            if given_up.is_some() || one.slow <= now {
                self.share_out(start + 1..end, 2);
                one.left.end = start + 1;
            }
            match given_up {
                Some(outcome) => {
                    one.child.give_up();
                    self.seen[start] = Some(nothing_seen(&self.items[start].1, outcome));
                }
                None => self.active.push(one),
            }
        }
    }

    /// When a look that begins now is slow, and when it hangs.
    fn instants(&self) -> (u64, u64) {
        (in_ms(SLOW_MS), in_ms(self.deadline_ms))
    }

    fn start_children<W: World>(&mut self, world: &W) -> Result<(), Failure> {
        while self.active.len() < MOST_LOOKS_AT_ONCE
            && let Some(left) = self.queue.pop_front()
        {
            let child = Child::start(|pipe| {
                for index in left.clone() {
                    let seen = self.look_at(world, index);
                    if pipe.send(&seen).is_err() {
                        return;
                    }
                }
            });
            let child = child.map_err(|errno| system("start a child that looks", errno))?;
            let (slow, deadline) = self.instants();
            self.active.push(Active { child, left, slow, deadline });
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
            Ok(()) => look(world.proc(), Spot::of(what), self.access, Some(user), &self.expect),
            Err(reason) => nothing_seen(user, Outcome::Skipped { reason }),
        }
    }
}

impl<W: World> Job<W> for Looks {
    fn descriptors<'a>(&'a self, _: &'a W) -> Vec<BorrowedFd<'a>> {
        self.active.iter().map(|one| one.child.pipe.as_fd()).collect()
    }

    fn deadline(&self) -> Option<u64> {
        let instants = |one: &Active| {
            if one.left.len() > 1 { one.slow.min(one.deadline) } else { one.deadline }
        };
        self.active.iter().map(instants).min()
    }

    fn advance(&mut self, world: &mut W, now: u64) -> Progress {
        self.take_seen(now);
        if let Err(failure) = self.start_children(world) {
            self.give_up();
            return Progress::Finished(Err(failure));
        }
        if !self.active.is_empty() {
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
