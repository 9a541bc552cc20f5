//! The consumer: waits for the marker, then watches the mount.
//!
//! It looks when something has happened — a mount event, the end of the connection — and every
//! second besides. It never touches the mount itself: each look is a child's, with a deadline, so
//! that a dead daemon cannot take the consumer with it.

use std::os::fd::AsFd;
use std::path::Path;

use mountinfo::MountPath;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Uid;
use propagation_model::marker::MARKER_FILE;
use propagation_model::observation::{Access, Outcome};
use propagation_protocol::consumer_log::ConsumerLine;
use propagation_protocol::{ProgramEvent, Seen};
use serde::{Deserialize, Serialize};

use crate::child::{Child, timeout};
use crate::failure::errno_and_fix;
use crate::holder;
use crate::look::{Spot, listing, look, read};
use crate::mounts::Proc;
use crate::reporter::{Reporter, timestamp};
use crate::sys::{in_ms, now_ns};
use crate::watch::MountWatch;
use propagation_model::Class;

/// How often it looks without having heard anything: what a hung daemon, or a lower filesystem
/// that changes silently, is found by.
const PERIOD_NS: u64 = 1_000_000_000;

/// What a consumer is told.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// Where the FUSE mount is or will be.
    pub mountpoint: String,
    /// Directory of the producer's filesystem that the marker must belong to; any if none.
    pub directory: Option<String>,
    /// How long it waits for the marker, in milliseconds.
    pub marker_ms: u64,
    /// How long one look may take, in milliseconds.
    pub probe_ms: u64,
    /// Whether it looks at all; otherwise it waits for its end.
    pub watches: bool,
}

/// A look with what the log shows of it.
#[derive(Debug, Serialize, Deserialize)]
struct Looked {
    seen: Seen,
    listing: Vec<String>,
    content: Vec<String>,
}

/// One look, with the names and the content for the log when they are wanted.
fn look_once(proc: &Proc, consumer: &Consumer, with_content: bool) -> Looked {
    let mountpoint = consumer.mountpoint.as_str();
    let belongs_to = consumer.directory.as_deref();
    let spot = Spot { belongs_to, ..Spot::in_mount(mountpoint, MARKER_FILE) };
    let seen = look(proc, spot, Access::Read, None, &[]);
    let (mut names, mut content) = (Vec::new(), Vec::new());
    if with_content && seen.outcome.is_ok() {
        names = listing(mountpoint);
        let marker = read(&Path::new(mountpoint).join(MARKER_FILE)).unwrap_or_default();
        content.extend(String::from_utf8_lossy(&marker).lines().map(ToOwned::to_owned));
    }
    Looked { seen, listing: names, content }
}

impl Consumer {
    /// Watches until SIGTERM, or until its node goes away; returns the exit code, 1 when watching is
    /// not possible.
    pub fn run(&self, reporter: &Reporter) -> i32 {
        match Watching::begin(self, reporter).and_then(Watching::go_on) {
            Ok(()) => 0,
            Err(errno) => {
                let error = errno_and_fix(errno);
                reporter.log_line(ConsumerLine::Failed { at: &timestamp(), error: &error });
                reporter.event(&ProgramEvent::Failed { text: error });
                1
            }
        }
    }
}

/// Where the consumer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The marker is not seen yet.
    Waiting,
    /// The deadline for the marker has passed.
    GaveUp,
    /// The marker has been seen.
    Ready,
}

struct Watching<'a> {
    consumer: &'a Consumer,
    reporter: &'a Reporter,
    proc: Proc,
    mounts: MountWatch,
    /// SIGTERM: process 1 of a pid namespace gets only the signals that it asks for.
    term: SignalFd,
    stage: Stage,
    give_up_at: u64,
    next_look_at: u64,
    /// The child that looks, kept from look to look.
    looker: Option<Child>,
    /// A child that was given up and still runs. The next one starts when it has ended or another mount is
    /// there: it would hang too.
    stuck: Option<Child>,
    /// The mount that the last look began at.
    looked_at: Option<u64>,
    /// When the look that goes on has to have ended.
    look_until: Option<u64>,
    look_again: bool,
    holder: Option<Child>,
    last: Option<(Class, Option<u64>)>,
}

impl<'a> Watching<'a> {
    fn begin(consumer: &'a Consumer, reporter: &'a Reporter) -> Result<Self, Errno> {
        let proc = Proc::open().map_err(|_| Errno::ENOENT)?;
        let mounts = MountWatch::open(&proc)?;
        let mut term = SigSet::empty();
        term.add(Signal::SIGTERM);
        term.thread_block()?;
        let term = SignalFd::with_flags(&term, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mountpoint = consumer.mountpoint.as_str();
        reporter.log_line(ConsumerLine::Waiting { mountpoint, watch: MountWatch::NAME });
        let now = now_ns();
        let unless_blind = |time| if consumer.watches { time } else { u64::MAX };
        Ok(Self {
            consumer,
            reporter,
            proc,
            mounts,
            term,
            stage: Stage::Waiting,
            give_up_at: unless_blind(in_ms(consumer.marker_ms)),
            next_look_at: unless_blind(now),
            looker: None,
            stuck: None,
            looked_at: None,
            look_until: None,
            look_again: false,
            holder: None,
            last: None,
        })
    }

    fn go_on(mut self) -> Result<(), Errno> {
        loop {
            let now = now_ns();
            self.pass_deadlines(now);
            let idle = self.look_until.is_none() && self.stuck.is_none();
            if idle && (self.look_again || now >= self.next_look_at) {
                self.start_look(now)?;
            }
            if !self.wait()? {
                return Ok(());
            }
            // Children that were given up end when their connection does.
            while waitpid(None, Some(WaitPidFlag::WNOHANG))
                .is_ok_and(|status| status.pid().is_some())
            {}
        }
    }

    /// Asks the looking child for a look. It is made at the first one, and again when one that hung has
    /// ended.
    fn start_look(&mut self, now: u64) -> Result<(), Errno> {
        if self.looker.is_none() {
            let (proc, consumer) = (&self.proc, self.consumer);
            self.looker =
                Some(Child::serve(|with_content: bool| look_once(proc, consumer, with_content))?);
        }
        if let Some(looker) = &self.looker {
            looker.pipe.send(&(self.stage != Stage::Ready))?;
        }
        self.looked_at = self.mounted();
        self.look_until = Some(in_ms(self.consumer.probe_ms));
        self.look_again = false;
        self.next_look_at = now + PERIOD_NS;
        Ok(())
    }

    /// The mount that is at the mountpoint.
    fn mounted(&self) -> Option<u64> {
        let table = self.proc.mount_table().ok()?;
        let path = MountPath::from(self.consumer.mountpoint.as_str());
        table.at(&path).map(|mount| mount.mount_id)
    }

    fn pass_deadlines(&mut self, now: u64) {
        if self.stage == Stage::Waiting && now >= self.give_up_at {
            self.stage = Stage::GaveUp;
            let seconds = self.consumer.marker_ms.div_ceil(1000).to_string();
            let mountpoint = self.consumer.mountpoint.as_str();
            self.reporter.log_line(ConsumerLine::NeverAppeared { seconds: &seconds });
            self.reporter.log_line(ConsumerLine::FinalContents { mountpoint });
            // The directory may be a dead mount by now: only a look that ended tells.
            let class = self.last.map_or("nothing was seen".into(), |(class, _)| class.to_string());
            self.reporter.log_line(ConsumerLine::LastSeen { class: &class });
        }
        if self.look_until.is_some_and(|until| now >= until) {
            if let Some(looker) = self.looker.take() {
                looker.give_up();
                self.stuck = Some(looker).filter(|_| self.mounted() == self.looked_at);
            }
            self.look_until = None;
            let after_ms = self.consumer.probe_ms;
            let took_ns = after_ms.saturating_mul(1_000_000);
            self.saw(Looked {
                seen: Seen {
                    uid: Uid::effective().as_raw(),
                    at_ns: now,
                    took_ns,
                    outcome: Outcome::Hang { after_ms },
                    generation: None,
                    mount: None,
                },
                listing: Vec::new(),
                content: Vec::new(),
            });
        }
    }

    /// Sleeps until something happens. Returns `false` when the node has gone or asks it to end.
    fn wait(&mut self) -> Result<bool, Errno> {
        let mut wake_at = match (self.look_until, &self.stuck) {
            (Some(until), _) => until,
            (None, Some(_)) => u64::MAX,
            (None, None) => self.next_look_at,
        };
        if self.stage == Stage::Waiting {
            wake_at = wake_at.min(self.give_up_at);
        }
        let mut descriptors =
            vec![self.mounts.poll_fd(), PollFd::new(self.term.as_fd(), PollFlags::POLLIN)];
        // Without POLLIN: the node never writes to its programs, only its end is of interest.
        let node = self.reporter.node().map(|pipe| {
            descriptors.push(PollFd::new(pipe.as_fd(), PollFlags::empty()));
            descriptors.len() - 1
        });
        let look = self.looker.as_ref().map(|child| {
            descriptors.push(PollFd::new(child.pipe.as_fd(), PollFlags::POLLIN));
            descriptors.len() - 1
        });
        // Without POLLIN: what it says is late, only its end is of interest.
        let stuck = self.stuck.as_ref().map(|child| {
            descriptors.push(PollFd::new(child.pipe.as_fd(), PollFlags::empty()));
            descriptors.len() - 1
        });
        let holder = self.holder.as_ref().map(|child| {
            descriptors.push(PollFd::new(child.pipe.as_fd(), PollFlags::POLLIN));
            descriptors.len() - 1
        });
        match poll(&mut descriptors, timeout(wake_at.saturating_sub(now_ns()))) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let ready = |index: usize| descriptors[index].any().unwrap_or(false);
        let mount_event = ready(0);
        let to_end = ready(1) || node.is_some_and(ready);
        let looked = look.is_some_and(ready);
        let held = holder.is_some_and(ready);
        let freed = stuck.is_some_and(ready);
        if to_end {
            return Ok(false);
        }
        if mount_event {
            self.look_again = self.consumer.watches;
            if self.stuck.is_some() && self.mounted() != self.looked_at {
                self.stuck = None;
            }
        }
        if freed {
            self.stuck = None;
            self.look_again = true;
        }
        if held {
            self.take_held()?;
        }
        if looked {
            self.take_look()?;
        }
        Ok(true)
    }

    fn take_look(&mut self) -> Result<(), Errno> {
        let Some(looker) = &mut self.looker else { return Ok(()) };
        let open = looker.pipe.fill(false)?;
        if let Some(looked) = looker.pipe.next::<Looked>()? {
            self.look_until = None;
            self.saw(looked);
        } else if !open {
            // It died: somebody killed it. The next look makes another.
            self.looker = None;
            self.look_until = None;
        }
        Ok(())
    }

    fn take_held(&mut self) -> Result<(), Errno> {
        let Some(child) = &mut self.holder else { return Ok(()) };
        let open = child.pipe.fill(false)?;
        while let Some(seen) = child.pipe.next::<Seen>()? {
            self.reporter.event(&ProgramEvent::Held { seen });
            self.look_again = true;
        }
        if !open {
            self.holder = None;
            self.look_again = true;
        }
        Ok(())
    }

    /// Takes note of a look: reports what is new, and logs it.
    fn saw(&mut self, looked: Looked) {
        let Looked { seen, listing, content } = looked;
        let ok = seen.outcome.is_ok();
        let now = (seen.outcome.class(), seen.generation);
        let new = self.last.as_ref() != Some(&now);
        let was_ok = self.last.as_ref().is_some_and(|(class, _)| *class == Class::Ok);
        self.last = Some(now);
        if ok && self.stage != Stage::Ready {
            self.stage = Stage::Ready;
            self.log_ready(&listing, &content);
        }
        match (self.stage, ok) {
            (Stage::Ready, true) => {
                self.reporter.log_line(ConsumerLine::Accessible { at: &timestamp() });
            }
            (Stage::Ready, false) if was_ok => {
                let outcome = seen.outcome.to_string();
                let line = ConsumerLine::Inaccessible { at: &timestamp(), outcome: &outcome };
                self.reporter.log_line(line);
            }
            _ => {}
        }
        if ok && self.holder.is_none() {
            self.holder = holder::start(&self.consumer.mountpoint).ok();
        }
        if new {
            self.reporter.event(&ProgramEvent::Saw { seen });
        }
    }

    fn log_ready(&self, listing: &[String], content: &[String]) {
        let (reporter, mountpoint) = (self.reporter, self.consumer.mountpoint.as_str());
        reporter.log_line(ConsumerLine::Found { at: &timestamp() });
        reporter.log_line(ConsumerLine::Contents { mountpoint });
        listing.iter().for_each(|line| reporter.log(line));
        reporter.log_line(ConsumerLine::Reading);
        content.iter().for_each(|line| reporter.log(line));
        reporter.log_line(ConsumerLine::Ready);
    }
}
