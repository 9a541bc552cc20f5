//! Background programs in a container, the servers of a measurement: starts them, waits until they serve,
//! ends them and reads what they use.
//!
//! A tag in their environment identifies them, from every container of the node; their children inherit it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mountinfo::{MountEntry, MountPath};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use propagation_model::program::PATH;
use propagation_protocol::measure::{Signalled, SpawnState, Spawned, TAG_VARIABLE, Used};

use crate::child::{timeout, within};
use crate::failure::errno_text;
use crate::mounts::{Proc, errno_of, make_directory, to_nix};
use crate::sys::{in_ms, now_ns};

/// How much of what a program prints is shown, in bytes.
const LAST_WORDS: u64 = 2_000;

/// How long one look at what is waited for may take.
const LOOK_MS: u64 = 1_000;

/// What is looked for again after, where nothing tells of it.
const AGAIN_NS: u64 = 10_000_000;

/// A program that is to run in the background.
#[derive(Debug, Clone)]
pub struct Background {
    /// By which it is known.
    pub tag: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its home directory, where it finds its configuration.
    pub home: String,
    /// The file that it prints into.
    pub log: PathBuf,
    /// What is waited for.
    pub until: Until,
    /// For how long.
    pub deadline_ms: u64,
}

/// What a program does when it is ready.
#[derive(Debug, Clone)]
pub enum Until {
    /// It listens at an address.
    Listens(SocketAddr),
    /// Something new is mounted at the first path, and the second can be looked at.
    Mounted(String, String),
}

impl Background {
    /// Starts it and waits until it is ready. One that is not in time, or cannot be waited for, is killed.
    ///
    /// # Errors
    /// When /proc cannot be read. What becomes of the program is a result.
    pub fn spawn(&self) -> Result<Spawned, Errno> {
        self.spawn_as().map(|(spawned, _)| spawned)
    }

    /// The same, with the process that was started, if one was.
    pub(crate) fn spawn_as(&self) -> Result<(Spawned, Option<Pid>), Errno> {
        let began_ns = now_ns();
        let mut pid = None;
        let proc = Proc::open().map_err(|_| Errno::ENOENT)?;
        let before = self.mounted(&proc);
        let state = match self.taken() {
            Some(address) => Ok(SpawnState::NotStarted(format!("{address} is in use already"))),
            None => match self.start() {
                Ok(mut program) => {
                    pid = Some(Pid::from_raw(program.id().cast_signed()));
                    self.wait(&mut program, &proc, before)
                }
                Err(why) => Ok(SpawnState::NotStarted(why)),
            },
        };
        if matches!(state, Ok(SpawnState::Late(_)) | Err(_)) {
            let killed = signal(&self.tag, Signal::SIGKILL, LOOK_MS);
            // Why it could not be waited for says more.
            if state.is_ok() {
                killed?;
            }
        }
        let state = state?;
        let output = self.last_words();
        Ok((Spawned { state, began_ns, known_ns: now_ns(), output }, pid))
    }

    /// The address that the program should listen at, if another program listens there: it would be mistaken for
    /// this one.
    fn taken(&self) -> Option<SocketAddr> {
        let Until::Listens(address) = self.until else { return None };
        connect(&address).is_ok().then_some(address)
    }

    /// Starts it; why not, in words.
    fn start(&self) -> Result<Child, String> {
        let failed =
            |what: &str, error: &std::io::Error| format!("{what}: {}", errno_text(errno_of(error)));
        if let Until::Mounted(at, _) = &self.until {
            // One that cannot be made is said by who mounts on it.
            let _ = make_directory(Path::new(at));
        }
        let opened = OpenOptions::new().create(true).append(true).open(&self.log);
        let (out, err) = opened
            .and_then(|out| Ok((out.try_clone()?, out)))
            .map_err(|error| failed(&format!("open {}", self.log.display()), &error))?;
        // Programs inherit the mask.
        let mask = SigSet::thread_get_mask();
        let _ = SigSet::all().thread_unblock();
        let started = Command::new(&self.command[0])
            .args(&self.command[1..])
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", &self.home)
            .env("LC_ALL", "C")
            .env(TAG_VARIABLE, &self.tag)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // Whoever started this process may kill its group.
            .process_group(0)
            .spawn();
        let _ = mask.map(|mask| mask.thread_set_mask());
        started.map_err(|error| failed(&format!("execute {}", self.command[0]), &error))
    }

    fn wait(
        &self,
        program: &mut Child,
        proc: &Proc,
        before: Option<u64>,
    ) -> Result<SpawnState, Errno> {
        let pid = rustix::process::Pid::from_raw(program.id().cast_signed()).ok_or(Errno::ESRCH)?;
        let flags = rustix::process::PidfdFlags::empty();
        let mut ended = Some(rustix::process::pidfd_open(pid, flags).map_err(to_nix)?);
        let mounts = proc.of_thread("mountinfo")?;
        let until_ns = in_ms(self.deadline_ms);
        loop {
            let missing = match self.missing(proc, before) {
                None => return Ok(SpawnState::Ready),
                Some(missing) => missing,
            };
            if ended.as_ref().is_some_and(is_ready) {
                let status = program.wait().map_err(|error| errno_of(&error))?;
                // One that went into the background has left somebody; where the kernel is the client, a
                // mount.
                let left =
                    || Ok(!tagged(proc, &[&self.tag])?.is_empty() || self.mounted(proc) != before);
                if status.code() != Some(0) || !left()? {
                    return Ok(SpawnState::Ended(status.code()));
                }
                ended = None;
            }
            let left = until_ns.saturating_sub(now_ns());
            if left == 0 {
                return Ok(SpawnState::Late(missing));
            }
            let mut descriptors = vec![PollFd::new(mounts.as_fd(), PollFlags::POLLPRI)];
            descriptors.extend(ended.iter().map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN)));
            match poll(&mut descriptors, timeout(left.min(AGAIN_NS))) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// What there is not yet; `None` when all is there.
    fn missing(&self, proc: &Proc, before: Option<u64>) -> Option<String> {
        match &self.until {
            Until::Listens(address) => connect(address)
                .err()
                .map(|error| format!("{address}: {}", errno_text(errno_of(&error)))),
            Until::Mounted(at, path) => {
                let now = self.mounted(proc);
                if now.is_none() || now == before {
                    return Some(format!("nothing is mounted at {at}"));
                }
                let look = || std::fs::metadata(path).map(drop).map_err(|e| errno_of(&e) as i32);
                match within(LOOK_MS, look) {
                    Ok(Some(Ok(()))) => None,
                    Ok(Some(Err(number))) => {
                        Some(format!("{path}: {}", errno_text(Errno::from_raw(number))))
                    }
                    Ok(None) => Some(format!("{path} does not answer")),
                    Err(errno) => Some(format!("look at {path}: {}", errno_text(errno))),
                }
            }
        }
    }

    /// The mount on top at the mountpoint.
    fn mounted(&self, proc: &Proc) -> Option<u64> {
        let Until::Mounted(at, _) = &self.until else { return None };
        let table = proc.mount_table().ok()?;
        table.at(&MountPath::from(at.as_str())).map(|mount| mount.mount_id)
    }

    fn last_words(&self) -> String {
        let content = end_of(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&content);
        // A character that was cut at the beginning.
        text.trim_start_matches(char::REPLACEMENT_CHARACTER).trim().to_owned()
    }
}

/// The last bytes of a file, however long it is.
fn end_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS)))?;
    let mut content = Vec::new();
    file.take(LAST_WORDS).read_to_end(&mut content)?;
    Ok(content)
}

/// Whether somebody listens; one whose queue is full does not answer, and is not waited for.
fn connect(address: &SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(address, Duration::from_millis(LOOK_MS))
}

/// Sends a signal to all processes of a tag; for one that ends them waits until they have.
///
/// # Errors
/// When /proc cannot be read.
pub fn signal(tag: &str, signal: Signal, deadline_ms: u64) -> Result<Signalled, Errno> {
    let proc = Proc::open().map_err(|_| Errno::ENOENT)?;
    let number = rustix::process::Signal::from_named_raw(signal as i32).ok_or(Errno::EINVAL)?;
    // Descriptors: a number may be another's by now.
    let processes = tagged(&proc, &[tag])?.into_iter();
    let processes: Vec<OwnedFd> =
        processes.filter_map(|pid| proc.own_number(pid)).filter_map(watch).collect();
    let at_ns = now_ns();
    for process in &processes {
        // One that has just ended needs none.
        let _ = rustix::process::pidfd_send_signal(process, number);
    }
    let until_ns = in_ms(deadline_ms);
    let ends = matches!(signal, Signal::SIGKILL | Signal::SIGTERM);
    for process in processes.iter().filter(|_| ends) {
        let mut descriptors = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        // One that has not ended in time is told by the account of its tag.
        let _ = poll(&mut descriptors, timeout(until_ns.saturating_sub(now_ns())));
    }
    Ok(Signalled { at_ns, processes: processes.len() as u64 })
}

/// What the processes of several tags have used since they started.
///
/// # Errors
/// When /proc cannot be read.
pub fn account(tags: &[&str]) -> Result<Used, Errno> {
    let proc = Proc::open().map_err(|_| Errno::ENOENT)?;
    let mut used = Used::default();
    for pid in tagged(&proc, tags)? {
        used.processes += 1;
        used.cpu_ns += cpu_ns(pid).unwrap_or_default();
        used.kernel_ns += kernel_ns(&proc, pid).unwrap_or_default();
        used.peak_bytes += status_number(&proc, &format!("{pid}/status"), "VmHWM:") * 1024;
        for task in proc.list(&format!("{pid}/task")).unwrap_or_default() {
            let status = format!("{pid}/task/{task}/status");
            used.switches += status_number(&proc, &status, "voluntary_ctxt_switches:");
            used.switches += status_number(&proc, &status, "nonvoluntary_ctxt_switches:");
        }
    }
    Ok(used)
}

/// Processes with one of the tags in their environment that are not over.
fn tagged(proc: &Proc, tags: &[&str]) -> Result<Vec<Pid>, Errno> {
    let name = format!("{TAG_VARIABLE}=");
    let pids = proc.list(".")?.into_iter().filter_map(|name| name.parse::<i32>().ok());
    let has = |pid: &i32| {
        let environment = proc.read(&format!("{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|variable| {
            let tag = variable.strip_prefix(name.as_bytes());
            tag.is_some_and(|tag| tags.iter().any(|wanted| wanted.as_bytes() == tag))
        })
    };
    Ok(pids.filter(has).map(Pid::from_raw).collect())
}

fn watch(pid: Pid) -> Option<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw())?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

fn is_ready(descriptor: &OwnedFd) -> bool {
    let mut descriptors = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut descriptors, timeout(0)), Ok(ready) if ready > 0)
}

/// The processor time of a process with all threads that it has had.
fn cpu_ns(pid: Pid) -> Option<u64> {
    let clock: ClockId = nix::time::clock_getcpuclockid(pid).ok()?;
    let time = clock_gettime(clock).ok()?;
    u64::try_from(time.tv_sec() * 1_000_000_000 + time.tv_nsec()).ok()
}

/// Of that, the time in the kernel: the 15th field of /proc/PID/stat (proc(5)), in ticks.
fn kernel_ns(proc: &Proc, pid: Pid) -> Option<u64> {
    /// Ticks are a hundredth of a second wherever programs see them.
    const TICK_NS: u64 = 10_000_000;
    let stat = proc.read(&format!("{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&stat);
    // The name, in brackets, may hold anything.
    let after_name = text.rsplit_once(')')?.1;
    let ticks: u64 = after_name.split_whitespace().nth(12)?.parse().ok()?;
    Some(ticks * TICK_NS)
}

fn status_number(proc: &Proc, name: &str, field: &str) -> u64 {
    let status = proc.read(name).unwrap_or_default();
    let text = String::from_utf8_lossy(&status);
    let number = text.lines().find_map(|line| line.strip_prefix(field));
    let number = number.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}

/// Unmounts every mount at a path, also one in use or stale, with the mounts over it.
///
/// # Errors
/// Those of umount2(2).
pub fn unmount(path: &Path) -> Result<u64, Errno> {
    let proc = Proc::open().map_err(|_| Errno::ENOENT)?;
    unmount_while(&proc, path, |_| true)
}

/// The same from the topmost mount down to the first that is to stay.
pub(crate) fn unmount_while(
    proc: &Proc,
    path: &Path,
    fits: impl Fn(&MountEntry) -> bool,
) -> Result<u64, Errno> {
    let mut taken = 0;
    loop {
        let table = proc.mount_table().map_err(|_| Errno::EIO)?;
        if !table.at(&MountPath::from(path)).is_some_and(&fits) {
            return Ok(taken);
        }
        crate::mounts::unmount_lazily(path)?;
        taken += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ready_in_time_is_killed_with_its_children() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path().join("mount").to_string_lossy().into_owned();
        let tag = format!("test-{}", std::process::id());
        let script = "sleep 1000 & echo begun; sleep 1000";
        let spawned = Background {
            tag: tag.clone(),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            home: "/".into(),
            log: directory.path().join("log"),
            until: Until::Mounted(at.clone(), at),
            deadline_ms: 500,
        };
        let spawned = spawned.spawn().expect("/proc can be read");
        assert!(matches!(spawned.state, SpawnState::Late(_)), "{spawned:?}");
        assert_eq!(spawned.output, "begun");
        assert_eq!(account(&[&tag]).expect("/proc can be read").processes, 0);
        let signalled = signal(&tag, Signal::SIGKILL, LOOK_MS).expect("/proc can be read");
        assert_eq!(signalled.processes, 0);
    }

    #[test]
    fn of_a_long_log_the_end_is_read() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "é".repeat(100_000) + "end").expect("room");
        let end = end_of(file.path()).expect("it is read");
        assert_eq!(end.len() as u64, LAST_WORDS);
        assert!(end.ends_with("éend".as_bytes()));
        std::fs::write(file.path(), "short").expect("room");
        assert_eq!(end_of(file.path()).expect("it is read"), b"short");
    }
}
