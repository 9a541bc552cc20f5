//! The machine, and what else ran on it meanwhile.

use std::fs;
use std::time::Instant;

/// A line that says what the numbers were measured on.
pub fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let memory = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok())
        .map_or_else(String::new, |kib: f64| format!(", {:.0} GiB", kib / 1024.0 / 1024.0));
    let virtual_machine = match read("/proc/cpuinfo").contains(" hypervisor") {
        true => ", virtual machine",
        false => "",
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let architecture = std::env::consts::ARCH;
    format!("Linux {} {architecture}, {cpus} CPUs{memory}{virtual_machine}", kernel.trim())
}

/// Processor time in clock ticks of 10 ms.
#[derive(Debug, Clone, Copy)]
struct Ticks {
    /// Of the whole machine, not idle.
    busy: f64,
    /// Of this process and of those it has started and waited for.
    own: f64,
}

impl Ticks {
    fn now() -> Option<Self> {
        let numbers = |text: &str| -> Vec<f64> {
            text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
        };
        let stat = fs::read_to_string("/proc/stat").ok()?;
        // user nice system idle iowait irq softirq steal guest guest_nice; guests are in user.
        let all = numbers(stat.lines().next()?);
        let busy = all.iter().take(8).sum::<f64>() - all.get(3)? - all.get(4)?;
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // Fields 14 to 17 of proc(5); the second one is a name and may hold anything.
        let fields = numbers(stat.rsplit_once(") ")?.1.get(2..)?);
        Some(Self { busy, own: fields.get(10..14)?.iter().sum() })
    }
}

/// Measures how busy others keep the machine: numbers from a busy machine are worth less.
#[derive(Debug)]
pub struct Neighbours {
    started: Instant,
    before: Option<Ticks>,
}

impl Neighbours {
    /// Begins to look.
    pub fn watch() -> Self {
        Self { started: Instant::now(), before: Ticks::now() }
    }

    /// Their load since then, in words. What the kernel does for the benchmark in threads of its
    /// own counts as theirs.
    pub fn describe(&self) -> String {
        let Some((before, now)) = self.before.zip(Ticks::now()) else {
            return "load of other processes not known".into();
        };
        let others = (now.busy - before.busy) - (now.own - before.own);
        let seconds = self.started.elapsed().as_secs_f64();
        format!("other processes used {:.2} CPUs meanwhile", (others / 100.0 / seconds).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn times_are_found() {
        let before = Ticks::now().expect("Linux has /proc/stat");
        let neighbours = Neighbours::watch();
        while Ticks::now().expect("still").own < before.own + 2.0 {}
        assert!(Ticks::now().expect("still").busy > before.busy);
        assert!(neighbours.describe().ends_with("meanwhile"));
    }
}
