//! The Kubernetes backend: the same five phases on a node of a real cluster.
//!
//! Every workload is a pod with a `hostPath` volume. On the node runs one host agent for the run, in
//! a privileged pod or started over ssh: it looks from the node and from inside the containers and does
//! faults and re-binds, and the programs in the containers report to it. The kubelet and the runtime are the
//! cluster's own, so the run shows what they really do and refuse.
//!
//! Reading order: [`objects`] makes manifests from a plan, `kinds` has what is read of objects, `requests` sends and
//! reads them, `open` opens a node, `shared` starts pods, `reach`, `host` and `link` connect to the node, `finish` ends a
//! run, `clean` removes the remains of a killed one, `search` finds them on nodes.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), propagation_core::Error> {
//! use propagation_backend_k8s::{K8sBackend, K8sOptions};
//! use propagation_core::prelude::*;
//!
//! let options = K8sOptions { node: Some("k3s-w1".into()), ..K8sOptions::default() };
//! let backend = K8sBackend::connect(options).await?;
//! let report = Runner::new(Plan::default())?.run(&backend).await?;
//! println!("{}", report.verdict.summary());
//! # Ok(()) }
//! ```

mod agent;
mod backend;
mod can;
mod clean;
mod cluster;
mod execute;
mod failure;
mod finish;
mod host;
mod images;
mod kinds;
mod link;
mod namespaces;
mod node;
mod nodes;
pub mod objects;
pub mod oci;
mod open;
mod operator;
mod options;
mod pods;
mod programs;
mod reach;
mod requests;
mod search;
mod shared;
mod sign;
mod standing;
mod tasks;
mod told;
mod toleration;
mod workload;

pub use backend::K8sBackend;
pub use clean::{Leftover, Leftovers};
#[cfg(unix)]
pub use link::ssh::SshOptions;
pub use options::{Access, K8sOptions, is_dns_label, is_label_value, parse_toleration};
pub use toleration::Toleration;
