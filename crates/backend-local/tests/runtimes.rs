//! The same scenarios come out the same whether the built-in engine, runc or crun makes the containers.
//!
//! Every file of `runtimes/` is run under each engine. All expectations must be met, and every check of
//! every phase must come out as under the built-in engine. What is known to differ is the mount at `/`
//! alone, which no volume can tell (`side_by_side/roots.rs`); scenarios do not look at it.
//!
//! Needs root, `/dev/fuse` and the runtimes. What is missing is a skip with its reason, or a failure
//! where `PROPAGATION_REQUIRE` names it (`runc`, `crun`, `all`).

#[cfg(target_os = "linux")]
#[path = "runtimes/suite.rs"]
mod suite;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    suite::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
