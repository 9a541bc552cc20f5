//! The most memory that a tree of processes held at a time.
//!
//! A memory control group of its own counts all of it: anonymous memory, shared memory and tmpfs,
//! page tables, and what the kernel allocates for the processes (mounts, namespaces, descriptors).
//! Only per-CPU counters are not charged: 8 bytes per mount and CPU. Where no group can be made,
//! the proportional set sizes of the processes are summed up every few milliseconds, which leaves
//! out the kernel's part and may miss the peak.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How often the fallback looks.
const PERIOD: Duration = Duration::from_millis(5);

/// How memory can be measured here.
#[derive(Debug, Clone)]
pub enum Meter {
    /// A control group that groups of processes are made in, with the names of its files.
    Group {
        /// Where this process is.
        own: PathBuf,
        /// What counts.
        files: Files,
    },
    /// Sums of proportional set sizes.
    SetSizes,
}

/// Files of a control group.
#[derive(Debug, Clone, Copy)]
pub struct Files {
    peak: &'static str,
    peak_of_kernel: Option<&'static str>,
}

const VERSION_1: Files = Files {
    peak: "memory.max_usage_in_bytes",
    peak_of_kernel: Some("memory.kmem.max_usage_in_bytes"),
};
const VERSION_2: Files = Files { peak: "memory.peak", peak_of_kernel: None };

/// What a tree of processes held at most, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peak {
    /// All of it.
    pub total_bytes: u64,
    /// The kernel's part, where it is counted apart. Its peak may lie at another time.
    pub kernel_bytes: Option<u64>,
}

impl Meter {
    /// The best way that works here.
    pub fn find() -> Self {
        for (own, files) in own_groups() {
            let meter = Self::Group { own, files };
            if meter.measure(|| Ok(())).is_ok() {
                return meter;
            }
        }
        Self::SetSizes
    }

    /// In words.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Group { files, .. } if files.peak_of_kernel.is_some() => {
                "memory: the peak of a memory control group (v1) of its own, kernel memory included"
            }
            Self::Group { .. } => {
                "memory: the peak of a memory control group (v2) of its own, kernel memory included"
            }
            Self::SetSizes => {
                "memory: proportional set sizes of all processes, summed every 5 ms; without \
                 the kernel's memory, because no control group can be made here"
            }
        }
    }

    /// Runs `work`, which starts processes and waits for them, and says what they held.
    ///
    /// # Errors
    /// As `work`, or when the group cannot be made or read.
    pub fn measure<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Peak)> {
        let Self::Group { own, files } = self else { return sample(work) };
        let group = own.join(format!("propagation-bench-{}", std::process::id()));
        fs::create_dir(&group)?;
        // Processes are born into the group of their parent.
        let result = move_into(&group).and_then(|()| work());
        move_into(own)?;
        let read = |file: &str| -> io::Result<u64> {
            fs::read_to_string(group.join(file))?.trim().parse().map_err(io::Error::other)
        };
        let peak = read(files.peak).map(|total_bytes| Peak {
            total_bytes,
            kernel_bytes: files.peak_of_kernel.and_then(|file| read(file).ok()),
        });
        fs::remove_dir(&group)?;
        Ok((result?, peak?))
    }
}

fn move_into(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), std::process::id().to_string())
}

/// The memory control groups that this process is in, by version.
fn own_groups() -> Vec<(PathBuf, Files)> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups
        .lines()
        .filter_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let (top, files) = match controllers {
                "" => ("/sys/fs/cgroup", VERSION_2),
                _ if controllers.split(',').any(|name| name == "memory") => {
                    ("/sys/fs/cgroup/memory", VERSION_1)
                }
                _ => return None,
            };
            Some((Path::new(top).join(path.trim_start_matches('/')), files))
        })
        .collect()
}

/// Runs `work` and sums up the set sizes of this process's descendants meanwhile.
fn sample<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Peak)> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut total_bytes = 0;
            while !done.load(Ordering::Relaxed) {
                total_bytes = total_bytes.max(descendants().into_iter().map(set_size).sum());
                #[allow(clippy::disallowed_methods)] // the period of the samples
                thread::sleep(PERIOD);
            }
            Peak { total_bytes, kernel_bytes: None }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        let peak = sampler.join().map_err(|_| io::Error::other("the sampling thread panicked"))?;
        Ok((result?, peak))
    })
}

/// The processes that this one has started, and theirs.
fn descendants() -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok) {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // Field 4 of proc(5), after a name in parentheses that may hold anything.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent =
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        if let Some((pid, parent)) = pid.zip(parent) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = children.remove(&std::process::id()).unwrap_or_default();
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let more = children.remove(pid).unwrap_or_default();
        found.extend(more);
        next += 1;
    }
    found
}

fn set_size(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    kib.unwrap_or(0) * 1024
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::Command;

    /// Holds 20 MiB in a shell variable and sleeps a little.
    fn hungry() -> io::Result<()> {
        let script = "x=$(head -c 20971520 /dev/zero | tr '\\0' x); sleep 0.1; echo ${#x}";
        let output = Command::new("sh").args(["-c", script]).output()?;
        assert_eq!(output.stdout.trim_ascii(), b"20971520");
        Ok(())
    }

    #[test]
    fn memory_of_children_is_seen() {
        for meter in [Meter::find(), Meter::SetSizes] {
            let ((), peak) = meter.measure(hungry).expect("measured");
            assert!(peak.total_bytes > 20 << 20, "{meter:?}: {peak:?}");
        }
    }
}
