//! Killed at any moment, in whatever it does: the kernel ends the rest. Nothing is left, also without
//! `propagation clean`; only what was kept on purpose needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};

use crate::support::{self, Machine, PASSED, TestResult, expect_code, skip};

/// What is killed.
#[derive(Debug, Clone, Copy)]
struct Variant {
    name: &'static str,
    command: &'static str,
    /// The options, or the file of a scenario.
    words: &'static [&'static str],
    needs: Need,
    /// The latest moment. What takes longer is in the middle of a pause.
    latest: Duration,
    kills: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Root,
    /// Root, and a program.
    Program(&'static str),
}

/// Number of runs that are killed in each variant.
const KILLS: usize = 46;

const fn options(name: &'static str, words: &'static [&'static str]) -> Variant {
    let (needs, latest) = (Need::Nothing, Duration::from_millis(400));
    Variant { name, command: "run", words, needs, latest, kills: KILLS }
}

const fn scenario(name: &'static str, words: &'static [&'static str], needs: Need) -> Variant {
    Variant { needs, ..options(name, words) }
}

/// Comparisons last for seconds: their servers start, work, are killed and come back.
const fn comparison(name: &'static str, words: &'static [&'static str], needs: Need) -> Variant {
    let latest = Duration::from_secs(12);
    Variant { command: "compare", needs, latest, kills: 15, ..options(name, words) }
}

const VARIANTS: &[Variant] = &[
    options("default", &[]),
    options("terminate", &["--fault", "terminate"]),
    options("delete", &["--fault", "delete"]),
    options("force_delete", &["--fault", "force_delete"]),
    options("stop", &["--fault", "stop"]),
    options("mountpoint", &["--volume", "mountpoint"]),
    options("ancestor", &["--volume", "ancestor"]),
    options("covering_slave", &["--covering", "slave"]),
    options("covering_private", &["--covering", "private"]),
    options("many_consumers", &["--consumers", "300"]),
    options("waiting", &["--propagation", "None"]),
    options("report", &["--report", "$REPORT"]),
    options("keep", &["--keep"]),
    scenario(
        "uid",
        &["--producer-uid", "1000", "--container-fuse-conf", "user_allow_other"],
        Need::Program("/usr/bin/fusermount3"),
    ),
    scenario("hand_over", &["100-hand-over-under-load.yaml"], Need::Root),
    scenario("held", &["063-juicefs-fd-holding.yaml"], Need::Root),
    scenario("oom", &["065-sidecar-oom.yaml"], Need::Root),
    scenario("user_namespace", &["113-user-namespace-pod.yaml"], Need::Root),
    scenario("bindfs", &["073-bindfs.yaml"], Need::Program("/usr/bin/bindfs")),
    scenario(
        "runc",
        &["007-decypharr-with-rslave.yaml", "--runtime", "runc"],
        Need::Program("/usr/sbin/runc"),
    ),
    scenario(
        "crun",
        &["007-decypharr-with-rslave.yaml", "--runtime", "crun"],
        Need::Program("/usr/bin/crun"),
    ),
    scenario(
        "keep_runc",
        &["007-decypharr-with-rslave.yaml", "--runtime", "runc", "--keep"],
        Need::Program("/usr/sbin/runc"),
    ),
    comparison("compare_fuse", &["--quick", "--transports", "fuse"], Need::Nothing),
    comparison(
        "compare_smb",
        &["--quick", "--transports", "smb-rclone,smb-smbnetfs", "--report", "$REPORT"],
        Need::Program("/usr/sbin/smbd"),
    ),
    comparison(
        "compare_in_the_machines_user_namespace",
        &["--quick", "--transports", "fuse-passthrough,smb-rclone"],
        Need::Program("/usr/bin/crun"),
    ),
];

/// A test for every variant.
pub(crate) fn tests() -> Vec<Trial> {
    let test = |variant: &'static Variant| {
        let name = format!("killed_at_{}_moments_leaves_nothing_{}", variant.kills, variant.name);
        Trial::ignorable_test(name, move || killed(variant, variant.kills))
    };
    let namespaces = support::tests![namespaces_of_killed_runs_are_given_back];
    VARIANTS.iter().map(test).chain(namespaces).collect()
}

/// In a user namespace that may have few namespaces, far more killed runs than these would be enough for: each
/// kind is counted by the kernel, also what nobody sees any more.
fn namespaces_of_killed_runs_are_given_back() -> TestResult {
    const RUNS: &str = "
for kind in mnt pid net ipc user; do echo $LIMIT > /proc/sys/user/max_${kind}_namespaces; done
killed=0
while [ $killed -lt $KILLS ]; do
  code=0
  timeout --signal KILL 0.$(( RANDOM % 3 ))$(( RANDOM % 10 ))1 $PROPAGATION run > $SCRATCH/out 2>&1 || code=$?
  [ $code = 137 ] && killed=$((killed + 1))
done
# Those of networks are given back a moment later.
for try in $(seq 100); do
  $PROPAGATION run > $SCRATCH/out 2>&1 && exit 0
  sleep 0.2
done
cat $SCRATCH/out
exit 1";
    // A run has about twenty of one kind.
    let limits = "export LIMIT=60 KILLS=100";
    let script =
        format!("{limits}\nexec unshare --user --map-root-user --mount bash -euc '{RUNS}'");
    expect_code(&support::in_private_namespace(&script), 0)?;
    PASSED
}

fn killed(variant: &Variant, kills: usize) -> TestResult {
    match variant.needs {
        Need::Nothing => {}
        _ if !support::is_root() => return skip("root", "only root can do this"),
        Need::Program(program) if !Path::new(program).exists() => {
            let name = program.rsplit('/').next().unwrap_or(program);
            return skip(name, &format!("{program} is not there"));
        }
        Need::Root | Need::Program(_) => {}
    }
    // Whoever loses its parent becomes a child of this test: nobody gets away.
    set_child_subreaper(Some(getpid()))?;
    let scratch = support::scratch();
    let mut runs = Runs { variant, scratch: scratch.path().to_owned() };
    let before = Kernel::now();
    let machine = (Machine::now().without_agents(), credentials());
    let started = Instant::now();
    runs.start()?.wait()?;
    let mut whole = started.elapsed().min(variant.latest);
    runs.clean_kept()?;
    let seed = u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut moments = Moments(seed);
    let (mut killed, mut ended_before) = (0, 0);
    while killed < kills {
        let mut child = runs.start()?;
        let moment = Duration::from_micros(moments.below(whole.as_micros()));
        #[allow(clippy::disallowed_methods)] // the pause is what is tested
        thread::sleep(moment);
        child.kill()?;
        // What ended by itself was not killed, and counts for nothing.
        match child.wait()?.signal() {
            Some(libc::SIGKILL) => killed += 1,
            _ => {
                // The machine was busier when the first one was measured.
                whole = whole.min(moment);
                ended_before += 1;
            }
        }
        if ended_before > 2 * kills {
            return Err(format!("{ended_before} runs ended too early, {killed} were killed").into());
        }
        let at = |what: String| format!("after {moment:?} (seed {seed}): {what}");
        runs.clean_kept().map_err(at)?;
        until_none(|| descendants().into_values().collect()).map_err(at)?;
        let after = (Machine::now().without_agents(), credentials());
        if after != machine {
            return Err(at(format!("{after:#?}, before {machine:#?}")).into());
        }
    }
    runs.expect_nothing_of_them(&before)
}

/// The runs of a variant.
struct Runs<'a> {
    variant: &'a Variant,
    scratch: PathBuf,
}

impl Runs<'_> {
    fn start(&mut self) -> std::io::Result<std::process::Child> {
        let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
        let mut command = support::propagation(&self.scratch, &[self.variant.command]);
        for word in self.variant.words {
            match *word {
                "$REPORT" => command.arg(self.scratch.join("report")),
                file if file.ends_with(".yaml") => {
                    command.arg("--scenario").arg(library.join(file))
                }
                option => command.arg(option),
            };
        }
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    }

    /// The names of those that came so far as to open a log.
    fn ids(&self) -> Vec<String> {
        let logs = fs::read_dir(self.scratch.join("propagation")).into_iter().flatten();
        let names = logs.filter_map(|log| log.ok()?.file_name().into_string().ok());
        names
            .filter_map(|name| {
                Some(name.strip_prefix("fuse-test-")?.strip_suffix(".log")?.to_owned())
            })
            .collect()
    }

    /// Removes the nodes that were kept.
    fn clean_kept(&self) -> Result<(), String> {
        if !self.variant.words.contains(&"--keep") {
            return Ok(());
        }
        for id in self.ids() {
            let cleaned = support::output(&self.scratch, &["clean", "--run-id", &id]);
            // 2: there is nothing of it.
            if !matches!(cleaned.status.code(), Some(0 | 2)) {
                return Err(format!("clean: {}", support::stderr(&cleaned)));
            }
            let log = format!("propagation/fuse-test-{id}.log");
            fs::remove_file(self.scratch.join(log)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Nothing that the kernel knows, and no file but logs and reports.
    fn expect_nothing_of_them(&self, before: &Kernel) -> TestResult {
        let ids = self.ids();
        until_none(|| mounts_of(&ids))?;
        let groups = control_groups_of(&ids);
        groups.iter().for_each(|group| drop(fs::remove_dir(group)));
        if !groups.is_empty() {
            return Err(format!("{} control groups are left: {groups:?}", groups.len()).into());
        }
        // Those of others on the same machine come and go.
        until_none(|| {
            Kernel::now().connections.difference(&before.connections).cloned().collect()
        })?;
        let mut unknown = names_in(&self.scratch)?;
        unknown.retain(|name| name != "propagation" && name != "report");
        let logs = names_in(&self.scratch.join("propagation"))?;
        unknown.extend(logs.into_iter().filter(|name| !name.starts_with("fuse-test-")));
        if !unknown.is_empty() {
            return Err(format!("files are left: {unknown:?}").into());
        }
        expect_code(&support::output(&self.scratch, &["run"]), 0)?;
        PASSED
    }
}

impl Drop for Runs<'_> {
    /// What a failed test has kept is not for the next one to find.
    fn drop(&mut self) {
        let _ = self.clean_kept();
    }
}

fn names_in(directory: &Path) -> std::io::Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(Vec::new()) };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// A small generator, seeded anew each time: the moments differ from run to run and are printed.
struct Moments(u64);

impl Moments {
    fn below(&mut self, end: u128) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % u64::try_from(end).unwrap_or(u64::MAX).max(1)
    }
}

/// What the kernel has beside processes and mounts.
struct Kernel {
    /// FUSE connections; none are seen where fusectl is not mounted.
    connections: BTreeSet<String>,
}

impl Kernel {
    fn now() -> Self {
        let names = names_in(Path::new("/sys/fs/fuse/connections")).unwrap_or_default();
        Self { connections: names.into_iter().collect() }
    }
}

/// Waits until there is nothing any more.
fn until_none(mut left: impl FnMut() -> Vec<String>) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        // What has ended and was left to this process.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        let now = left();
        if now.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("left after 30 s: {now:#?}"));
        }
        thread::yield_now();
    }
}

/// Where servers of a comparison have their configuration, which is in the memory of their node.
fn credentials() -> Vec<&'static str> {
    let names = ["/srv/compare", "/mnt/work", "/var/lib/samba/private/smbpasswd", "/root/.smb"];
    names.into_iter().filter(|name| Path::new(name).exists()).collect()
}

/// The processes below this one.
fn descendants() -> BTreeMap<u32, String> {
    let mut all: Vec<(u32, u32, String)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse().ok()) {
            all.push((pid, parent, stat));
        }
    }
    let mut found = BTreeMap::new();
    let mut parents = vec![std::process::id()];
    while let Some(parent) = parents.pop() {
        for (pid, _, stat) in all.iter().filter(|(_, its, _)| *its == parent) {
            found.insert(*pid, stat.clone());
            parents.push(*pid);
        }
    }
    found
}

/// Mounts, in whatever namespace a process has, that are named after one of the runs.
fn mounts_of(ids: &[String]) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut namespaces = BTreeSet::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(namespace) = fs::read_link(process.path().join("ns/mnt")) else { continue };
        if !namespaces.insert(namespace) {
            continue;
        }
        let table = fs::read_to_string(process.path().join("mountinfo")).unwrap_or_default();
        let ours = table.lines().filter(|line| ids.iter().any(|id| line.contains(id)));
        found.extend(ours.map(str::to_owned));
    }
    found.into_iter().collect()
}

/// Control groups that are named after one of the runs.
fn control_groups_of(ids: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            if ids.iter().any(|id| name.contains(id)) {
                found.push(entry.path());
            }
            directories.push(entry.path());
        }
    }
    found
}
