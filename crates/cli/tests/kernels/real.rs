//! What a guest has and this machine may not have: security modules, automount, version 2 of the control groups,
//! request timeouts. Each script of `real/` brings one about in a guest of its own, and looks with the program.

use std::fs;

use libtest_mimic::Trial;

use super::guest::{self, Kernel};
use super::support::{PASSED, PROPAGATION, TestResult, scratch};

/// A script gets so many seconds.
const SECONDS: u32 = 300;

/// What begins every script.
const COMMON: &str = include_str!("real/common.sh");

/// A script, and what the kernel is told at its start.
struct Script {
    name: &'static str,
    text: &'static str,
    options: &'static str,
}

const SCRIPTS: [Script; 7] = [
    Script { name: "apparmor", text: include_str!("real/apparmor.sh"), options: "" },
    Script { name: "autofs", text: include_str!("real/autofs.sh"), options: "" },
    Script { name: "cifs", text: include_str!("real/cifs.sh"), options: "" },
    Script { name: "device-group", text: include_str!("real/device-group.sh"), options: "" },
    Script { name: "memory-group", text: include_str!("real/memory-group.sh"), options: "" },
    Script { name: "request-timeout", text: include_str!("real/request-timeout.sh"), options: "" },
    Script {
        name: "selinux",
        text: include_str!("real/selinux.sh"),
        options: "security=selinux selinux=1 enforcing=0",
    },
];

/// One test for each script.
pub(super) fn tests(kernel: &Kernel) -> impl Iterator<Item = Trial> + use<'_> {
    SCRIPTS.iter().map(|script| {
        let kernel = kernel.clone();
        let name = format!("linux {}: {}", kernel.release, script.name);
        Trial::ignorable_test(name, move || run(&kernel, script))
    })
}

fn run(kernel: &Kernel, script: &Script) -> TestResult {
    let scratch = scratch();
    let work = scratch.path();
    fs::copy(PROPAGATION, work.join("propagation"))?;
    let text = format!("#!/bin/busybox sh\n{COMMON}\n{}", script.text);
    guest::run(kernel, work, &text, script.options, SECONDS)?;
    PASSED
}
