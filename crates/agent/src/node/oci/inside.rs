//! The agent as the program of a container that a runtime has made.
#![allow(unsafe_code)] // the number of a descriptor that the program was started with

use std::fs::File;
use std::io::Read as _;

use nix::sys::prctl;
use nix::sys::signal::SigSet;
use propagation_protocol::{ContainerSpec, frame_length};
use serde::{Deserialize, Serialize};

use super::super::role;
use super::engine::HANDED_ON;
use crate::pipe::Pipe;
use crate::reporter::Reporter;
use crate::sys::{adopt, close_on_exec_from};

/// What the program is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Told {
    pub(in super::super) container: ContainerSpec,
    /// What the mounts of a producer call their source.
    pub(in super::super) source: String,
}

/// Waits to be told what to be, and is it; returns the exit code. A node that goes before it says
/// anything wants nothing any more.
pub fn main() -> i32 {
    // SAFETY: the program begins here, and nothing owns the number yet.
    let Ok(socket) = (unsafe { adopt(HANDED_ON) }) else { return 1 };
    close_on_exec_from(HANDED_ON);
    let Ok(copy) = socket.try_clone() else { return 1 };
    let Some(told) = read(File::from(copy)) else { return 1 };
    if SigSet::all().thread_unblock().is_err() {
        return 1;
    }
    // The name is for people who look at `ps`.
    if let Ok(name) = std::ffi::CString::new(told.container.name.as_str()) {
        let _ = prctl::set_name(&name);
    }
    role::run(&told.container, &told.source, &Reporter::to_node(Pipe::new(socket)))
}

/// Reads one frame and nothing behind it: what follows are commands to the program.
fn read(mut socket: File) -> Option<Told> {
    let mut header = [0; 4];
    socket.read_exact(&mut header).ok()?;
    let mut body = vec![0; frame_length(header).ok()?];
    socket.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
