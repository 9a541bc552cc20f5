//! The agent: the one program that runs inside a container, simulated or real.
//!
//! `node` makes a simulated node and serves it ([`node`]); `container` is the program of a container that an
//! OCI runtime makes on it; `host` serves a run on a real node ([`host`]), where containers run `program`;
//! `producer` mounts the FUSE filesystem; `consumer` watches it; `probe` looks once and cannot hang; `facts`
//! reads the facts of a host; `mirror` shows a directory; `measure` works on a mount and reports the times;
//! [`background`] runs servers. The agent has one thread wherever it touches namespaces, and no async runtime.
#![cfg(target_os = "linux")]

pub mod background;
mod bridge;
mod changes;
mod child;
mod consumer;
pub mod facts;
mod failure;
mod fuse_fs;
mod fuse_mount;
mod holder;
pub mod host;
mod kernel;
pub mod kernel_mount;
mod liveness;
mod load;
mod look;
pub mod measure;
pub mod mirror;
mod mounts;
pub mod node;
#[cfg(test)]
mod own_mounts;
mod pipe;
pub mod probe;
mod producer;
mod publish;
mod reporter;
mod resolve;
mod run_program;
mod selinux;
mod serve;
mod stuck;
mod supervisor;
mod sys;
mod take_over;
#[cfg(test)]
mod test_container;
mod turn;
mod user;
mod view;
mod watch;

pub use consumer::Consumer;
pub use mounts::Proc;
pub use pipe::read_frames;
pub use producer::Producer;
pub use reporter::Reporter;
