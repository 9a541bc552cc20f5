//! Looking from many places: in children, because every look may hang.

use std::collections::VecDeque;
use std::ops::Range;

use propagation_model::ErrorKind;
use propagation_model::marker::Marker;
use propagation_model::observation::{Access, Outcome};
use propagation_model::plan::User;
use propagation_protocol::{Failure, Look, Place, Reply, Seen};

use super::server::{Progress, Server};
use super::view::View;
use crate::child::Child;
use crate::failure::{errno_name, failure, system};
use crate::look::{Spot, look};
use crate::sys::{in_ms, now_ns};

/// More looks than this are shared out to two children: one for each core of a small machine.
const SHARED_OUT: usize = 64;

/// The most children at a time, once a look has hung and the rest get a child each.
const MOST_CHILDREN: usize = 256;

/// Looks that are being taken.
pub(super) struct Observing {
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

struct Active {
    child: Child,
    left: Range<usize>,
    deadline: u64,
}

impl Observing {
    pub(super) fn begin(
        server: &Server,
        looks: Vec<Look>,
        access: Access,
        expect: Vec<Marker>,
        deadline_ms: u64,
    ) -> Result<Self, Failure> {
        let mut apart = false;
        for look in &looks {
            apart |= server.view_of(&look.place)?.user.is_some();
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
        let queue = (0..shares).map(|n| n * count / shares..(n + 1) * count / shares).collect();
        let seen = vec![None; count];
        let mut observing = Self {
            looks,
            items,
            access,
            expect,
            deadline_ms,
            seen,
            queue,
            shares: if count > SHARED_OUT { 2 } else { 1 },
            hung: false,
            active: Vec::new(),
        };
        observing.start_children(server).inspect_err(|_| observing.give_up())?;
        Ok(observing)
    }

    fn give_up(&self) {
        self.active.iter().for_each(|one| one.child.give_up());
    }

    pub(super) fn children(&self) -> impl Iterator<Item = &Child> {
        self.active.iter().map(|active| &active.child)
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.active.iter().map(|active| active.deadline).min()
    }

    pub(super) fn poll(&mut self, server: &mut Server, now: u64) -> Progress {
        match self.advance(server, now) {
            Err(failure) => {
                self.give_up();
                Progress::Finished(Err(failure))
            }
            Ok(()) if self.active.is_empty() && self.queue.is_empty() => {
                let seen = std::mem::take(&mut self.seen).into_iter().flatten().collect();
                Progress::Finished(Ok(Reply::Observed { seen }))
            }
            Ok(()) => Progress::Unfinished,
        }
    }

    fn advance(&mut self, server: &mut Server, now: u64) -> Result<(), Failure> {
        let mut active = std::mem::take(&mut self.active);
        if let Err(failure) = active.iter_mut().try_for_each(|one| self.take(one)) {
            self.active = active;
            return Err(failure);
        }
        let (late, going): (Vec<_>, Vec<_>) = active
            .into_iter()
            .filter(|one| !one.left.is_empty())
            .partition(|one| one.deadline <= now);
        self.active = going;
        for one in late {
            self.hang(server, one, now);
        }
        self.start_children(server)
    }

    /// Takes what a child has seen so far.
    fn take(&mut self, one: &mut Active) -> Result<(), Failure> {
        let failed = |errno| system("look from the actors", errno);
        one.child.pipe.fill(false).map_err(failed)?;
        while let Some(seen) = one.child.pipe.next::<Seen>().map_err(failed)? {
            let Some(index) = one.left.next() else { break };
            self.seen[index] = Some(seen);
            one.deadline = in_ms(self.deadline_ms);
        }
        if one.child.pipe.is_closed() && !one.left.is_empty() {
            let reason = "the child that looks died";
            return Err(failure(ErrorKind::Internal, "look from the actors", reason, None));
        }
        Ok(())
    }

    /// The look that a child is at hangs; those after it get a child each, so that they hang, if
    /// they do, at the same time.
    fn hang(&mut self, server: &mut Server, mut one: Active, now: u64) {
        self.hung = true;
        if let Some(index) = one.left.next() {
            let mount_point = &self.looks[self.items[index].0].mount_point;
            server.stuck.give_up(&server.proc, one.child, mount_point, self.access);
            let uid = self.items[index].1.uid;
            let took_ns = self.deadline_ms.saturating_mul(1_000_000);
            let outcome = Outcome::Hang { after_ms: self.deadline_ms };
            self.seen[index] =
                Some(Seen { uid, at_ns: now, took_ns, outcome, generation: None, mount: None });
        }
        self.queue.extend(one.left.map(|index| index..index + 1));
    }

    fn start_children(&mut self, server: &Server) -> Result<(), Failure> {
        // Until a look hangs there are as many as shares: of those that hang together each would stay.
        let most = if self.hung { MOST_CHILDREN } else { self.shares };
        while self.active.len() < most
            && let Some(range) = self.queue.pop_front()
        {
            if range.is_empty() {
                continue;
            }
            let child = Child::start(|pipe| {
                for index in range.clone() {
                    let seen = self.look_at(server, index);
                    if pipe.send(&seen).is_err() {
                        return;
                    }
                }
            })
            .map_err(|errno| system("start a child that looks", errno))?;
            let deadline = in_ms(self.deadline_ms);
            self.active.push(Active { child, left: range, deadline });
        }
        Ok(())
    }

    /// In a child: enters the place and looks.
    fn look_at(&self, server: &Server, index: usize) -> Seen {
        let (which, user) = &self.items[index];
        let what = &self.looks[*which];
        let entered =
            server.view_of(&what.place).map_err(|failure| failure.reason).and_then(|view| {
                view.enter()
                    .map_err(|errno| format!("enter the mount namespace: {}", errno_name(errno)))
            });
        match entered {
            Ok(()) => {
                server.stuck.wait(&server.proc, &what.mount_point, self.access);
                look(&server.proc, Spot::of(what), self.access, Some(user), &self.expect)
            }
            Err(reason) => Seen {
                uid: user.uid,
                at_ns: now_ns(),
                took_ns: 0,
                outcome: Outcome::Skipped { reason },
                generation: None,
                mount: None,
            },
        }
    }
}

impl Server {
    /// The mount view of a place.
    pub(super) fn view_of(&self, place: &Place) -> Result<&View, Failure> {
        match place {
            Place::Node => Ok(&self.view),
            Place::Runtime => Ok(self.runtime.as_ref().unwrap_or(&self.view)),
            Place::Container(id, replica) => {
                self.containers.get(id).and_then(|container| container.view(*replica)).ok_or_else(
                    || {
                        failure(
                            ErrorKind::InvalidInput,
                            format!("look from container {id}, replica {replica}"),
                            "unknown container, or it has ended",
                            None,
                        )
                    },
                )
            }
        }
    }
}
