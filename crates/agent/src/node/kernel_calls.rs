//! System calls that no node needs: a filter answers them with ENOSYS, as a kernel does that does not have them. It
//! keeps what may be wrong in them from the programs of a scenario.
#![allow(unsafe_code)] // prctl(2) with a program for the kernel

use nix::errno::Errno;

/// Of the machine, its clock, its modules and devices, and of every process on it.
const OF_THE_MACHINE: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_perf_event_open,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    // Keys belong to users, not to namespaces.
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
];

/// What only this architecture has.
#[cfg(target_arch = "x86_64")]
const OF_THE_PROCESSOR: &[libc::c_long] = &[libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_uselib];
#[cfg(not(target_arch = "x86_64"))]
const OF_THE_PROCESSOR: &[libc::c_long] = &[];

/// What runtimes need for the devices of a container, in control groups of version 2.
const FOR_RUNTIMES: libc::c_long = libc::SYS_bpf;

/// What servers of NFS need. In a user namespace of the node's own it opens none of the machine's files; without one
/// it opens all, so that a run allows it where its user has named such a server.
const FOR_SERVERS: libc::c_long = libc::SYS_open_by_handle_at;

/// The architecture of system calls (`AUDIT_ARCH_*`), and the first number that is not one of its own.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: (u32, u32) = (0xc000_003e, 0x4000_0000);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: (u32, u32) = (0xc000_00b7, u32::MAX);

/// Where `struct seccomp_data` has the number of the call and the architecture.
const NUMBER: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;

/// Denies these calls to the process and to all that it starts; `contained` in a user namespace of its own, or with
/// a runtime in the machine's. A kernel without filters denies nothing.
pub(super) fn deny(contained: bool, files_by_handle: bool) -> Result<(), Errno> {
    let mut denied = [OF_THE_MACHINE, OF_THE_PROCESSOR].concat();
    match contained {
        true => denied.push(FOR_RUNTIMES),
        false => denied.extend((!files_by_handle).then_some(FOR_SERVERS)),
    }
    let mut program = filter(&denied);
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        filter: program.as_mut_ptr(),
    };
    // Not with no_new_privs: fusermount3 is a set-uid program.
    // SAFETY: the kernel copies the program, which lives until the call returns.
    let set =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    match Errno::result(set) {
        Ok(_) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The filter: calls of other architectures are denied as a whole, for their numbers mean others.
fn filter(denied: &[libc::c_long]) -> Vec<libc::sock_filter> {
    let load = |at| (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
    let equal = |value| (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value);
    let at_least = |value| (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, value);
    let (architecture, others) = ARCHITECTURE;
    let mut tests =
        vec![load(ARCHITECTURE_AT), equal(architecture), load(NUMBER), at_least(others)];
    tests.extend(denied.iter().filter_map(|number| Some(equal(u32::try_from(*number).ok()?))));
    // Allowed is what falls through; the last statement denies.
    let last = tests.len() + 1;
    let statement = |(index, (code, value)): (usize, (u32, u32))| {
        let to_last = u8::try_from(last - index - 1).unwrap_or(u8::MAX);
        let (if_so, if_not) = match (code & 0x07 == libc::BPF_JMP, index) {
            (false, _) => (0, 0),
            // Of the architecture: goes on.
            (true, 1) => (0, to_last),
            (true, _) => (to_last, 0),
        };
        libc::sock_filter { code: code as u16, jt: if_so, jf: if_not, k: value }
    };
    let mut program: Vec<_> = tests.into_iter().enumerate().map(statement).collect();
    let enosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    for answer in [libc::SECCOMP_RET_ALLOW, enosys] {
        let code = (libc::BPF_RET | libc::BPF_K) as u16;
        program.push(libc::sock_filter { code, jt: 0, jf: 0, k: answer });
    }
    program
}
