//! The list of tests, what they need, and what must be true when all are done.
#![allow(clippy::print_stderr)] // a test program

mod case;
#[path = "../support/cgroups.rs"]
mod cgroups;
mod compare;
mod expected;
mod graph;
mod inside;
mod roots;
mod runtime;
mod units;
#[path = "../support/user_namespaces.rs"]
mod user_namespaces;
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use self::case::{Case, MODES};
use self::compare::{Found, compare, tell_apart};
use self::roots::{Maker, rule};
use self::runtime::{Runtime, cgroups_left};

/// How many tests ended how, for each runtime.
type Counts = Arc<Mutex<BTreeMap<(Maker, &'static str), usize>>>;

/// The whole program.
pub(super) fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, job] = words.as_slice()
        && word == inside::WORD
    {
        return inside::main(job);
    }
    // A real runtime enters the node from outside, and makes its containers with the machine's rights: the
    // node stays in the machine's user namespace, as one whose containers are all made by a runtime does.
    if let Err(error) = user_namespaces::forbid() {
        eprintln!("forbid user namespaces: {error}");
        return ExitCode::FAILURE;
    }
    let arguments = Arguments::from_args();
    let mounts_before = mounts();
    let counts = Counts::default();
    let runtimes = [Maker::Runc, Maker::Crun].map(|maker| (maker, Runtime::find(maker)));
    let mut trials = units::trials();
    for (maker, runtime) in &runtimes {
        trials.extend(trials_with(*maker, runtime, &counts));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    print_summary(&runtimes, &counts);
    let mut left = cgroups_left().iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    if mounts() != mounts_before {
        left.push(format!("the machine's mounts changed:\n{mounts_before}became\n{}", mounts()));
    }
    if left.is_empty() {
        return conclusion.exit_code();
    }
    eprintln!("left behind: {}", left.join("\n"));
    ExitCode::FAILURE
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

/// What is asked of one runtime.
fn trials_with(maker: Maker, runtime: &Result<Runtime, String>, counts: &Counts) -> Vec<Trial> {
    let cases = Case::all().map(|case| {
        let name = format!("{maker}: {case}");
        trial(name, maker, runtime, counts, move |runtime| {
            block_on(compare(case, runtime)).map(kind)
        })
    });
    let pairs = MODES.iter().flat_map(|&ours| MODES.map(|theirs| (ours, theirs)));
    let apart = pairs.filter(|(ours, theirs)| ours != theirs).map(|(ours, theirs)| {
        let name = format!("{maker}: {theirs} is told from a simulated {ours}");
        trial(name, maker, runtime, counts, move |runtime| {
            block_on(tell_apart(ours, theirs, runtime)).map(|()| "told apart")
        })
    });
    cases.chain(apart).collect()
}

/// The count that a compared case goes to.
fn kind(found: Found) -> &'static str {
    match found {
        Found::Same => "the same",
        Found::Refused => "refused by the simulator in containerd's words, and as expected",
    }
}

fn trial(
    name: String,
    maker: Maker,
    runtime: &Result<Runtime, String>,
    counts: &Counts,
    run: impl FnOnce(&Runtime) -> Result<&'static str, Failed> + Send + 'static,
) -> Trial {
    let (runtime, counts) = (runtime.clone(), Arc::clone(counts));
    Trial::ignorable_test(name, move || {
        let count = |kind| {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.entry((maker, kind)).or_default() += 1;
        };
        let runtime = match ready(maker, &runtime) {
            Ok(runtime) => runtime,
            Err(skip) => {
                let completion = skip.completion();
                count(if completion.is_ok() { "skipped" } else { "required and missing" });
                return completion;
            }
        };
        let result = run(runtime);
        count(*result.as_ref().unwrap_or(&"failed"));
        result.map(|_| Completion::Completed)
    })
}

/// Something that is missing.
struct Skip {
    /// The word for it in `PROPAGATION_REQUIRE`.
    what: String,
    reason: String,
}

impl Skip {
    fn completion(self) -> Result<Completion, Failed> {
        propagation_conformance::skip(&self.what, &self.reason)
    }
}

/// Whether a case can be run here.
fn ready(maker: Maker, runtime: &Result<Runtime, String>) -> Result<&Runtime, Skip> {
    let skip = |what: &str, reason: &str| Skip { what: what.into(), reason: reason.into() };
    if !nix::unistd::Uid::effective().is_root() {
        return Err(skip("root", "only root runs containers as containerd does"));
    }
    if !Path::new("/dev/fuse").exists() {
        return Err(skip("fuse", "there is no /dev/fuse"));
    }
    if !mounts().contains(" - cgroup") {
        return Err(skip("cgroup", "no control groups are mounted, and no runtime starts without"));
    }
    runtime.as_ref().map_err(|reason| skip(&maker.to_string(), reason))
}

fn block_on<T>(test: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test)
}

/// What was done with which runtime, and the differences that are known and were checked.
fn print_summary(runtimes: &[(Maker, Result<Runtime, String>)], counts: &Counts) {
    let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    for (maker, runtime) in runtimes {
        match runtime {
            Ok(runtime) => eprintln!("{}:", runtime.title),
            Err(reason) => eprintln!("{maker}: {reason}"),
        }
        for ((_, kind), count) in counts.iter().filter(|((of, _), _)| of == maker) {
            eprintln!("  {count} {kind}");
        }
        if !counts.contains_key(&(*maker, kind(Found::Same))) {
            continue;
        }
        let Ok(Runtime { version, .. }) = runtime else { continue };
        let (Some(ours), Some(theirs)) = (rule(Maker::Simulator, *version), rule(*maker, *version))
        else {
            continue;
        };
        for mode in MODES.into_iter().filter(|&mode| ours.root(mode) != theirs.root(mode)) {
            let (here, there) = (ours.root(mode), theirs.root(mode));
            eprintln!(
                "  known difference: / of a {mode} container is {there:?}, simulated {here:?}"
            );
            eprintln!("    ({})", theirs.reason);
        }
    }
}
