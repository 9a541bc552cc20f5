//! Looks through descriptors that are kept: a process for each place reads through its own.

use std::os::fd::{AsFd, BorrowedFd};

use propagation_model::marker::Marker;
use propagation_model::observation::Outcome;
use propagation_protocol::{Failure, Look, Place, Reply, Seen};

use super::holder::{Asked, Holder};
use super::simulated::Simulated;
use crate::failure::system;
use crate::serve::{Job, Progress};
use crate::sys::in_ms;

/// Reads through kept descriptors that are going on.
pub(super) struct Holding {
    looks: Vec<(Place, u32)>,
    seen: Vec<Option<Seen>>,
    deadline_ms: u64,
    deadline: u64,
}

impl Holding {
    pub(super) fn begin(
        node: &mut Simulated,
        looks: &[Look],
        expect: &[Marker],
        deadline_ms: u64,
    ) -> Result<Self, Failure> {
        let mut holding =
            Self { looks: Vec::new(), seen: Vec::new(), deadline_ms, deadline: in_ms(deadline_ms) };
        for look in looks {
            if !node.holders.contains_key(&look.place) {
                let user = look.users.first().cloned().unwrap_or_default();
                let holder = Holder::start(node.view_of(&look.place)?, &user)?;
                node.holders.insert(look.place.clone(), holder);
            }
            let path = format!("{}/{}", look.directory, look.file);
            if let Some(holder) = node.holders.get_mut(&look.place) {
                let belongs_to = look.belongs_to.clone();
                let asked = Asked { path, belongs_to, expect: expect.to_vec() };
                holder.child.pipe.send(&asked).map_err(|errno| system("ask a holder", errno))?;
                holder.owed += 1;
            }
            holding.looks.push((look.place.clone(), look.users.first().map_or(0, |user| user.uid)));
            holding.seen.push(None);
        }
        Ok(holding)
    }
}

impl Job<Simulated> for Holding {
    fn descriptors<'a>(&'a self, node: &'a Simulated) -> Vec<BorrowedFd<'a>> {
        let holders = self.looks.iter().filter_map(|(place, _)| node.holders.get(place));
        holders.map(|holder| holder.child.pipe.as_fd()).collect()
    }

    fn deadline(&self) -> Option<u64> {
        Some(self.deadline)
    }

    fn advance(&mut self, node: &mut Simulated, now: u64) -> Progress {
        let failed = |errno| Progress::Finished(Err(system("read a kept descriptor", errno)));
        for ((place, uid), seen) in self.looks.iter().zip(&mut self.seen) {
            let Some(holder) = node.holders.get_mut(place).filter(|_| seen.is_none()) else {
                continue;
            };
            if let Err(errno) = holder.child.pipe.fill(false) {
                return failed(errno);
            }
            loop {
                match holder.child.pipe.next::<Seen>() {
                    Ok(Some(answer)) => {
                        holder.owed = holder.owed.saturating_sub(1);
                        // Answers to reads that were given up come first.
                        if holder.owed == 0 {
                            *seen = Some(Seen { uid: *uid, ..answer });
                        }
                    }
                    Ok(None) => break,
                    Err(errno) => return failed(errno),
                }
            }
            let closed = holder.child.pipe.is_closed();
            if seen.is_none() && (closed || now >= self.deadline) {
                let outcome = match closed {
                    true => Outcome::Skipped { reason: "its process has ended".into() },
                    false => Outcome::Hang { after_ms: self.deadline_ms },
                };
                let took_ns = self.deadline_ms.saturating_mul(1_000_000);
                let (uid, generation, mount) = (*uid, None, None);
                *seen = Some(Seen { uid, at_ns: now, took_ns, outcome, generation, mount });
            }
        }
        if self.seen.iter().any(Option::is_none) {
            return Progress::Unfinished;
        }
        let seen = std::mem::take(&mut self.seen).into_iter().flatten().collect();
        Progress::Finished(Ok(Reply::Observed { seen }))
    }
}
