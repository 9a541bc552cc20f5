//! Looking from many places, each look in a child of its own: every one of them may hang.

use std::os::fd::AsFd;

use nix::sched::{CloneFlags, setns};
use propagation_model::marker::Marker;
use propagation_model::observation::{Access, Outcome};
use propagation_model::plan::User;
use propagation_protocol::{Failure, Look, Place, Reply, Seen};

use super::programs::Programs;
use crate::child::Child;
use crate::failure::{errno_name, system};
use crate::look::{Spot, look};
use crate::mounts::Proc;
use crate::stuck::Stuck;
use crate::sys::{in_ms, now_ns};

/// The most children at a time.
const MOST_CHILDREN: usize = 32;

/// Looks that are being taken.
pub(super) struct Looks {
    looks: Vec<Look>,
    /// Which look, as which of its users.
    items: Vec<(usize, User)>,
    expect: Vec<Marker>,
    access: Access,
    deadline_ms: u64,
    seen: Vec<Option<Seen>>,
    next: usize,
    hung: bool,
    active: Vec<(usize, Child, u64)>,
}

impl Looks {
    pub(super) fn begin(
        programs: &Programs,
        looks: Vec<Look>,
        expect: Vec<Marker>,
        access: Access,
        deadline_ms: u64,
    ) -> Result<Self, Failure> {
        for look in &looks {
            if let Place::Container(id, replica) = look.place {
                programs.namespace(id, replica)?;
            }
        }
        let items: Vec<(usize, User)> = looks
            .iter()
            .enumerate()
            .flat_map(|(index, look)| look.users.iter().map(move |user| (index, user.clone())))
            .collect();
        let seen = vec![None; items.len()];
        Ok(Self {
            looks,
            items,
            expect,
            access,
            deadline_ms,
            seen,
            next: 0,
            hung: false,
            active: Vec::new(),
        })
    }

    pub(super) fn children(&self) -> impl Iterator<Item = &Child> {
        self.active.iter().map(|(_, child, _)| child)
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.active.iter().map(|(_, _, deadline)| *deadline).min()
    }

    /// Goes on; the answer once there is one.
    pub(super) fn advance(
        &mut self,
        proc: &Proc,
        programs: &Programs,
        stuck: &mut Stuck,
    ) -> Option<Result<Reply, Failure>> {
        let now = now_ns();
        for (item, mut child, deadline) in std::mem::take(&mut self.active) {
            let open = child.pipe.fill(false).unwrap_or(false);
            match child.pipe.next::<Seen>() {
                Ok(Some(seen)) => self.seen[item] = Some(seen),
                _ if !open => {
                    self.seen[item] = Some(self.skipped(item, "the child that looks died"));
                }
                _ if deadline <= now => {
                    self.hung = true;
                    let mount_point = &self.looks[self.items[item].0].mount_point;
                    stuck.give_up(proc, child, mount_point, self.access);
                    let outcome = Outcome::Hang { after_ms: self.deadline_ms };
                    self.seen[item] = Some(self.without_mount(item, outcome));
                }
                _ => self.active.push((item, child, deadline)),
            }
        }
        // Until a look hangs there is one at a time: of those that hang together each would stay.
        let most = if self.hung { MOST_CHILDREN } else { 1 };
        while self.active.len() < most && self.next < self.items.len() {
            let item = self.next;
            self.next += 1;
            let child = Child::start(|pipe| {
                // A parent that has gone needs no answer.
                let _ = pipe.send(&self.look_at(proc, programs, stuck, item));
            });
            match child {
                Ok(child) => {
                    self.active.push((item, child, in_ms(self.deadline_ms)));
                }
                Err(errno) => {
                    self.children().for_each(Child::give_up);
                    return Some(Err(system("start a child that looks", errno)));
                }
            }
        }
        let ended = self.active.is_empty() && self.next == self.items.len();
        ended.then(|| {
            let seen = std::mem::take(&mut self.seen).into_iter().flatten().collect();
            Ok(Reply::Observed { seen })
        })
    }

    /// In a child: enters the place and looks.
    fn look_at(&self, proc: &Proc, programs: &Programs, stuck: &Stuck, item: usize) -> Seen {
        let (which, user) = &self.items[item];
        let what = &self.looks[*which];
        if let Place::Container(id, replica) = what.place {
            let entered = programs.namespace(id, replica).map_err(|f| f.reason).and_then(|ns| {
                setns(ns.as_fd(), CloneFlags::CLONE_NEWNS)
                    .map_err(|errno| format!("enter the mount namespace: {}", errno_name(errno)))
            });
            if let Err(reason) = entered {
                return self.skipped(item, &reason);
            }
        }
        stuck.wait(proc, &what.mount_point, self.access);
        look(proc, Spot::of(what), self.access, Some(user), &self.expect)
    }

    fn skipped(&self, item: usize, reason: &str) -> Seen {
        self.without_mount(item, Outcome::Skipped { reason: reason.into() })
    }

    fn without_mount(&self, item: usize, outcome: Outcome) -> Seen {
        let took_ns = match outcome {
            Outcome::Hang { after_ms } => after_ms.saturating_mul(1_000_000),
            _ => 0,
        };
        let uid = self.items[item].1.uid;
        Seen { uid, at_ns: now_ns(), took_ns, outcome, generation: None, mount: None }
    }
}
