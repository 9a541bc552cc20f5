//! Readers and writers that use the mount all the time, each a process of its own, and their results.
//!
//! Each writes its account into a file in memory after every operation, so that the account can be read
//! while the process hangs.
#![allow(unsafe_code)] // fork, and numbers of descriptors after it

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use propagation_model::marker::{MARKER_FILE, Marker};
use propagation_model::program::LoadReport;

use crate::failure::reported;
use crate::mounts::errno_of;
use crate::sys::{Fork, exit_now, fork, keep_only, now_ns};

/// The pause between two operations of one process: a steady load, and no race for the processor.
const PAUSE_NS: u64 = 1_000_000;

/// The file that writers write into.
const SCRATCH_FILE: &str = "scratch.txt";

/// The processes of one container.
#[derive(Debug)]
pub(crate) struct Load {
    processes: Vec<Process>,
}

#[derive(Debug)]
struct Process {
    pid: Pid,
    file: std::fs::File,
    /// What had been accounted when the account was read last.
    before: Account,
}

/// What one process has met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Account {
    operations: u64,
    failed: u64,
    last_errno: u64,
    longest_ns: u64,
    /// When the operation that goes on began; 0 between operations.
    began_ns: u64,
}

impl Account {
    const BYTES: usize = 40;
    const LONGEST_AT: u64 = 24;
    const BEGAN_AT: u64 = 32;

    fn bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let words = [self.operations, self.failed, self.last_errno, self.longest_ns, self.began_ns];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn read(file: &std::fs::File) -> Self {
        let mut bytes = [0; Self::BYTES];
        if file.read_exact_at(&mut bytes, 0).is_err() {
            return Self::default();
        }
        let mut words = bytes.chunks_exact(8).map(|chunk| {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        });
        let mut next = || words.next().unwrap_or_default();
        let (operations, failed, last_errno) = (next(), next(), next());
        let (longest_ns, began_ns) = (next(), next());
        Self { operations, failed, last_errno, longest_ns, began_ns }
    }
}

impl Load {
    /// Starts the processes; `enter` moves each into the container.
    pub(crate) fn start(
        readers: u32,
        writers: u32,
        mountpoint: &str,
        enter: impl Fn() -> Result<(), Errno>,
    ) -> Result<Self, Errno> {
        let mut load = Self { processes: Vec::new() };
        for number in 0..readers.saturating_add(writers) {
            let file = std::fs::File::from(memfd_create(c"load", MFdFlags::MFD_CLOEXEC)?);
            // SAFETY: there is one thread here, as wherever the agent forks.
            match unsafe { fork() }? {
                Fork::Child => {
                    // Nothing that the process was born with is to live on in it.
                    // SAFETY: this process uses nothing else that it was born with, and never returns.
                    let own = enter().and_then(|()| unsafe { keep_only([file.as_fd()]) });
                    std::mem::forget(file);
                    if let Ok([own]) = own {
                        work(&own.into(), Path::new(mountpoint), number >= readers);
                    }
                    exit_now(1)
                }
                Fork::Parent(pid) => {
                    load.processes.push(Process { pid, file, before: Account::default() });
                }
            }
        }
        Ok(load)
    }

    /// What they have met since they were asked last.
    pub(crate) fn report(&mut self) -> LoadReport {
        let mut report = LoadReport::default();
        for process in &mut self.processes {
            let account = Account::read(&process.file);
            report.operations += account.operations - process.before.operations;
            let failed = account.failed - process.before.failed;
            report.failed += failed;
            if failed > 0 {
                let errno = i32::try_from(account.last_errno).unwrap_or_default();
                report.last_errno = Some(reported(Errno::from_raw(errno)));
            }
            let going_on = match account.began_ns {
                0 => 0,
                began_ns => now_ns().saturating_sub(began_ns),
            };
            report.longest_us = report.longest_us.max(account.longest_ns.max(going_on) / 1_000);
            process.before = account;
            // The longest of the next time is to be of that time.
            let longest = 0_u64.to_ne_bytes();
            let _ = process.file.write_all_at(&longest, Account::LONGEST_AT);
        }
        report
    }
}

impl Drop for Load {
    /// Kills the processes. Stuck processes end with their connection.
    fn drop(&mut self) {
        for process in &self.processes {
            let _ = kill(process.pid, Signal::SIGKILL);
            let _ = waitpid(process.pid, Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// The life of one process.
fn work(file: &std::fs::File, mountpoint: &Path, writes: bool) {
    let marker = mountpoint.join(MARKER_FILE);
    let scratch = mountpoint.join(SCRATCH_FILE);
    let mut account = Account::default();
    for turn in 0_u64.. {
        account.began_ns = now_ns();
        // Alone: the longest before it may have been taken back by the reader of the account.
        let _ = file.write_all_at(&account.began_ns.to_ne_bytes(), Account::BEGAN_AT);
        let result = match (writes, turn % 3) {
            (true, _) => write(&scratch, turn),
            (false, 0) => list(mountpoint),
            (false, 1) => read(&marker),
            (false, _) => open_only(&marker).map(drop),
        };
        let took_ns = now_ns().saturating_sub(account.began_ns);
        account.longest_ns = Account::read(file).longest_ns.max(took_ns);
        account.began_ns = 0;
        account.operations += 1;
        if let Err(errno) = result {
            account.failed += 1;
            account.last_errno = u64::try_from(errno as i32).unwrap_or_default();
        }
        let _ = file.write_all_at(&account.bytes(), 0);
        let _ = nix::poll::poll(&mut [], crate::child::timeout(PAUSE_NS));
    }
}

fn open_only(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

fn read(path: &Path) -> Result<(), Errno> {
    let mut content = [0; 4096];
    let length = nix::unistd::read(open_only(path)?, &mut content)?;
    Marker::parse(&content[..length]).map(drop).ok_or(Errno::ENODATA)
}

fn list(directory: &Path) -> Result<(), Errno> {
    let mut found = false;
    for entry in std::fs::read_dir(directory).map_err(|error| errno_of(&error))? {
        found |= entry.map_err(|error| errno_of(&error))?.file_name() == MARKER_FILE;
    }
    if found { Ok(()) } else { Err(Errno::ENODATA) }
}

fn write(path: &Path, turn: u64) -> Result<(), Errno> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    nix::unistd::write(&file, format!("{turn:020}\n").as_bytes()).map(drop)
}
