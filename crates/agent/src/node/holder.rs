//! A process that opens a file from a place, keeps the descriptor, and reads through it when it is asked to.
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
use propagation_protocol::{Failure, Seen};
use serde::{Deserialize, Serialize};

use crate::child::Child;
use crate::failure::{reported, system};
use crate::look::judge_content;
use crate::sys::now_ns;
use crate::user::become_user;
use crate::view::View;

/// A process that keeps a descriptor.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) child: Child,
    /// How many answers it owes: a read that hangs is answered when it ends, if it does.
    pub(super) owed: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) belongs_to: Option<String>,
    pub(super) expect: Vec<Marker>,
}

impl Holder {
    pub(super) fn start(view: &View, user: &User) -> Result<Self, Failure> {
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
        Err((call, errno)) => (Outcome::errno(reported(errno), call), None),
    };
    let at_ns = now_ns();
    Seen { uid: 0, at_ns, took_ns: at_ns - started, outcome, generation, mount: None }
}
