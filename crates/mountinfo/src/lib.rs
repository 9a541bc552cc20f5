#![doc = include_str!("../README.md")]
//!
//! `/proc/<pid>/mountinfo` is the one honest account of what a process can see. This crate reads its
//! bytes ([`MountTable::parse`]), finds the mount that a path leads to ([`MountTable::at`],
//! [`MountTable::covering`]), joins the tables of several namespaces to a graph of mount propagation
//! ([`MountGraph`]), and compares two captures ([`diff`]). It does no I/O, so it works with bytes from
//! any source, on any operating system.
//!
//! A mount made at a directory is copied to the peers and slaves of the mount that *covers* the
//! directory. So the question "will this consumer see a mount made on the node?" is asked of the
//! covering mount:
//!
//! ```
//! use mountinfo::{MountGraph, MountPath, MountRef, MountTable};
//!
//! let node = MountTable::parse(
//!     b"27 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
//!       40 27 0:46 / /bridge rw shared:2 - tmpfs tmpfs rw\n",
//! )?;
//! let consumer = MountTable::parse(
//!     b"70 69 0:50 / / rw - overlay overlay rw\n\
//!       71 70 0:46 / /data rw master:2 - tmpfs tmpfs rw\n",
//! )?;
//!
//! let mount_point = MountPath::from("/bridge/dfs");
//! let covering = node.covering(&mount_point).expect("the node has a root");
//! let directory = covering.directory_of(&mount_point).expect("it is covered");
//! assert_eq!(directory.to_string(), "/dfs");
//!
//! let from = MountRef::new("node", covering.mount_id);
//! let volume = MountRef::new("consumer", 71);
//! let root = MountRef::new("consumer", 70);
//! let graph = MountGraph::build([("node".into(), node), ("consumer".into(), consumer)]);
//! assert!(graph.would_see(&from, &directory, &volume));
//! assert!(!graph.would_see(&from, &directory, &root));
//! # Ok::<(), mountinfo::ParseError>(())
//! ```
//!
//! Reading order: `path`, `entry`, `parse`, `table`, `graph_data`, `graph`, `graph_text`, `diff`.

mod diff;
mod entry;
mod error;
mod escape;
mod graph;
mod graph_data;
mod graph_text;
mod parse;
mod path;
mod table;
#[cfg(test)]
mod tests;

pub use diff::{MountChange, TableDiff, diff};
pub use entry::{DeviceId, MountEntry, MountPropagation, is_fuse, is_served};
pub use error::{FieldError, ParseError};
pub use graph::MountGraph;
pub use graph_data::{GraphData, GraphEdge, GraphNode, MountRef, Slave};
pub use path::MountPath;
pub use table::MountTable;
