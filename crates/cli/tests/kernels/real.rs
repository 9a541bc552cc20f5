//! What a guest has and this machine may not have: security modules, automount, clients of CIFS and NFS, version 2 of the
//! control groups, idmapped mounts, request timeouts, a root that is an initramfs. Each script of `real/` brings one about, and looks with the
//! program.

use std::fmt::Write as _;
use std::fs;

use libtest_mimic::Trial;

use super::guest::{self, Kernel};
use super::support::{PASSED, TestResult, library, scratch, skip};

/// A guest gets so many seconds, also where the machine has other work.
const SECONDS: u32 = 1200;

/// The files of the library that need a client of the kernel, and what they are called in a guest.
const SCENARIOS: [(&str, &str); 3] = [
    ("167-cifs-server-dies.yaml", "scenario.yaml"),
    ("170-five-phases-smb-cifs.yaml", "phases-smb-cifs.yaml"),
    ("171-five-phases-nfs.yaml", "phases-nfs.yaml"),
];

/// What begins every script.
const COMMON: &str = include_str!("real/common.sh");

/// A script and its name.
type Script = (&'static str, &'static str);

/// A guest with its scripts, one after the other, and what the kernel is told at its start.
struct Guest {
    scripts: &'static [Script],
    options: &'static str,
}

/// The variable that names the policy of SELinux that `scripts/fetch-selinux-policy` has compiled.
const POLICY: &str = "PROPAGATION_SELINUX_POLICY";

/// The script that needs it.
const WITH_POLICY: &str = "selinux-policy";

const GUESTS: [Guest; 7] = [
    Guest {
        scripts: &[
            ("apparmor", include_str!("real/apparmor.sh")),
            ("autofs", include_str!("real/autofs.sh")),
            ("device-group", include_str!("real/device-group.sh")),
            ("idmapped", include_str!("real/idmapped.sh")),
            ("memory-group", include_str!("real/memory-group.sh")),
            ("re-bind", include_str!("real/re-bind.sh")),
            ("request-timeout", include_str!("real/request-timeout.sh")),
        ],
        options: "guest_modules=autofs4",
    },
    Guest {
        scripts: &[("initramfs", include_str!("real/initramfs.sh"))],
        options: "guest_root=initramfs",
    },
    Guest {
        scripts: &[("cifs", include_str!("real/cifs.sh")), ("nfs", include_str!("real/nfs.sh"))],
        options: "guest_modules=cifs,nfs,nfsv4",
    },
    Guest {
        scripts: &[
            ("compare", include_str!("real/compare.sh")),
            ("scenario", include_str!("real/scenario.sh")),
        ],
        options: "guest_modules=cifs,nfs,nfsv4",
    },
    Guest {
        scripts: &[("phases", include_str!("real/phases.sh"))],
        options: "guest_modules=cifs,nfs,nfsv4",
    },
    Guest { scripts: &[("selinux", include_str!("real/selinux.sh"))], options: SELINUX },
    Guest { scripts: &[(WITH_POLICY, include_str!("real/selinux-policy.sh"))], options: SELINUX },
];

/// A kernel with SELinux, until it is told otherwise permissive.
const SELINUX: &str = "security=selinux selinux=1 enforcing=0";

/// One test for each guest, named after its scripts.
pub(super) fn tests(kernel: &Kernel) -> impl Iterator<Item = Trial> + use<'_> {
    GUESTS.iter().map(|guest| {
        let kernel = kernel.clone();
        let names: Vec<_> = guest.scripts.iter().map(|(name, _)| *name).collect();
        let name = format!("linux {}: {}", kernel.release, names.join(", "));
        Trial::ignorable_test(name, move || run(&kernel, guest))
    })
}

fn run(kernel: &Kernel, guest: &Guest) -> TestResult {
    let scratch = scratch();
    let work = scratch.path();
    guest::copy_program(work)?;
    for (file, called) in SCENARIOS {
        fs::copy(library::root().join("scenarios").join(file), work.join(called))?;
    }
    if guest.scripts.iter().any(|(name, _)| *name == WITH_POLICY) {
        let Ok(policy) = std::env::var(POLICY) else {
            return skip("kernels", &format!("{POLICY} names no policy; make test-kernels"));
        };
        fs::copy(policy, work.join("policy"))?;
    }
    let mut main = String::from("#!/bin/busybox sh\nfailed=0\n");
    for (name, text) in guest.scripts {
        fs::write(work.join(name), format!("{COMMON}\n{text}"))?;
        let failed = format!("{{ echo 'guest: {name} failed'; failed=1; }}");
        let _ = writeln!(main, "busybox sh /work/{name} || {failed}");
    }
    main.push_str("exit $failed\n");
    guest::run(kernel, work, &main, guest.options, SECONDS)?;
    PASSED
}
