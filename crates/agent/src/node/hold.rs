//! Descriptors that are opened from a place and kept: a process for each, which reads through its own when
//! it is asked to.
#![allow(unsafe_code)] // numbers of descriptors in a forked child

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use propagation_model::marker::Marker;
use propagation_model::observation::Outcome;
use propagation_model::plan::User;
use propagation_protocol::{Failure, Look, Place, Reply, Seen};
use serde::{Deserialize, Serialize};

use super::server::{Progress, Server};
use crate::child::Child;
use crate::failure::{errno_name, system};
use crate::look::judge_content;
use crate::sys::{in_ms, now_ns};
use crate::user::become_user;

/// A process that keeps a descriptor.
#[derive(Debug)]
pub(super) struct Holder {
    child: Child,
    /// How many answers it owes: a read that hangs is answered when it ends, if it does.
    owed: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    path: String,
    belongs_to: Option<String>,
    expect: Vec<Marker>,
}

/// Reads through kept descriptors that are going on.
pub(super) struct Holding {
    looks: Vec<(Place, u32)>,
    seen: Vec<Option<Seen>>,
    deadline_ms: u64,
    deadline: u64,
}

impl Holding {
    pub(super) fn begin(
        server: &mut Server,
        looks: &[Look],
        expect: &[Marker],
        deadline_ms: u64,
    ) -> Result<Self, Failure> {
        let mut holding =
            Self { looks: Vec::new(), seen: Vec::new(), deadline_ms, deadline: in_ms(deadline_ms) };
        for look in looks {
            if !server.holders.contains_key(&look.place) {
                let user = look.users.first().cloned().unwrap_or_default();
                let holder = Holder::start(server, &look.place, &user)?;
                server.holders.insert(look.place.clone(), holder);
            }
            let path = format!("{}/{}", look.directory, look.file);
            if let Some(holder) = server.holders.get_mut(&look.place) {
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

    pub(super) fn children<'a>(&self, server: &'a Server) -> Vec<&'a Child> {
        let places = self.looks.iter().map(|(place, _)| place);
        places.filter_map(|place| server.holders.get(place)).map(|holder| &holder.child).collect()
    }

    pub(super) fn deadline(&self) -> u64 {
        self.deadline
    }

    pub(super) fn poll(&mut self, server: &mut Server, now: u64) -> Progress {
        let failed = |errno| Progress::Finished(Err(system("read a kept descriptor", errno)));
        for ((place, uid), seen) in self.looks.iter().zip(&mut self.seen) {
            let Some(holder) = server.holders.get_mut(place).filter(|_| seen.is_none()) else {
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

impl Holder {
    fn start(server: &Server, place: &Place, user: &User) -> Result<Self, Failure> {
        let view = server.view_of(place)?;
        let child = Child::start(|pipe| {
            let kept = RefCell::new(None);
            // Other containers must not live on in what this process was born with.
            // SAFETY: this process uses nothing else that it was born with, and never returns.
            let alone = view.enter().and_then(|()| unsafe { pipe.alone() });
            let entered = alone.and_then(|pipe| {
                if !user.is_plain_root() {
                    become_user(user)?;
                }
                Ok(pipe)
            });
            let Ok(mut pipe) = entered else { crate::sys::exit_now(1) };
            while let Ok(Some(asked)) = pipe.receive::<Asked>() {
                let seen = read(&mut kept.borrow_mut(), &asked);
                if pipe.send(&seen).is_err() {
                    break;
                }
            }
            crate::sys::exit_now(0)
        })
        .map_err(|errno| system("start a process that keeps a descriptor", errno))?;
        Ok(Self { child, owed: 0 })
    }

    /// Ends the process; one that is stuck ends with its connection.
    pub(super) fn end(&self) {
        self.child.give_up();
    }
}

/// Opens the file if that has not been done, and reads it from its beginning.
fn read(kept: &mut Option<OwnedFd>, asked: &Asked) -> Seen {
    let started = now_ns();
    let read = || -> Result<Vec<u8>, (&'static str, Errno)> {
        if kept.is_none() {
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
            let file = open(Path::new(&asked.path), flags, Mode::empty());
            *kept = Some(file.map_err(|errno| ("open", errno))?);
        }
        let mut content = vec![0; 4096];
        let file = kept.as_ref().ok_or(("open", Errno::EBADF))?;
        let length =
            nix::sys::uio::pread(file, &mut content, 0).map_err(|errno| ("read", errno))?;
        content.truncate(length);
        Ok(content)
    };
    let mut read = read;
    let (outcome, generation) = match read() {
        Ok(content) => judge_content(&content, asked.belongs_to.as_deref(), &asked.expect),
        Err((call, errno)) => (Outcome::errno(errno_name(errno), call), None),
    };
    let at_ns = now_ns();
    Seen { uid: 0, at_ns, took_ns: at_ns - started, outcome, generation, mount: None }
}
