//! What the benchmarks share: the machine they ran on, statistics, tables, running the tool and the
//! floor, and the memory of a tree of processes.
//!
//! The benchmarks are `five_phases`, `scale`, `latency`, `mountinfo`, `diagnosis` and `probe`; the
//! program `floor` is what the first three compare with. Results and limits are in the README beside this crate.

pub mod machine;
pub mod memory;
pub mod options;
pub mod run_floor;
pub mod run_tool;
pub mod statistics;
pub mod table;
