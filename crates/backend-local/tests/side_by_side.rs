//! The propagation graph of a simulated container is the same as that of the same mounts under
//! Debian's `runc` and `crun`.
//!
//! Every case opens a simulated node and starts two containers *on that one node*: one by the
//! simulator, one by a real runtime, with the options that containerd writes for the volume. Both
//! bind the same mounts of the same host, the producer's real FUSE mount included, and are captured
//! at the same time, so nothing has to be stood in for and peer groups can be compared by what they
//! are on the node. Then mounts are made and taken away on the node and in each container, and it is
//! looked who sees them.
//!
//! Needs root, `/dev/fuse`, a mounted control group filesystem (nothing is made in it), and `runc`
//! or `crun` under `/usr`. What is missing is a skip with its reason, or a failure where
//! `PROPAGATION_REQUIRE` names it (`root`, `fuse`, `cgroup`, `runc`, `crun`, `all`).
//!
//! Left out: two volumes in one container, one inside the other. A simulated container has one.
//!
//! Reading order: `suite`, `case`, `compare`, `expected`, `roots` (what is known to differ), `graph`,
//! `world`, `runtime`, `inside`; `units` tests the pure parts.

#[cfg(target_os = "linux")]
#[path = "side_by_side/suite.rs"]
mod suite;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    suite::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
