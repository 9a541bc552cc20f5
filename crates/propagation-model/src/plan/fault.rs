//! Faults: what can happen to a producer.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::errno::Errno;

/// What happens to a workload, usually the producer.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// SIGKILL to the daemon. Where it is process 1 of its container, as usual, the container's
    /// namespaces go with it; under a supervisor the container stays.
    #[default]
    Kill,
    /// SIGTERM: the daemon unmounts cleanly and exits.
    Terminate,
    /// The pod is deleted: SIGTERM, SIGKILL when that takes too long, and its namespaces go.
    Delete,
    /// The pod is deleted by force (`kubectl delete --force --grace-period 0`): it is gone from the
    /// cluster at once, and its processes have at least the 2 s that a kubelet gives.
    ForceDelete,
    /// The daemon unmounts by itself and exits, as on an internal error.
    Exit,
    /// SIGKILL to process 1 of the container: the supervisor dies, and its children with it.
    KillParent,
    /// SIGSTOP: the daemon is alive and does not answer.
    Stop,
    /// SIGCONT: it answers again.
    Continue,
    /// The connection is aborted through fusectl; the daemon lives.
    Abort,
    /// The daemon answers requests this many milliseconds later (0 ends it): all, or single operations.
    /// Built-in filesystem only.
    Slow(PerOperation<u64>),
    /// The daemon answers requests with this error, such as `EIO` (`0` ends it): all, or single
    /// operations. Built-in filesystem only.
    Errors(PerOperation<Errno>),
    /// The mount is unmounted on the node (umount(8)).
    Unmount,
    /// The mount is unmounted lazily on the node (`umount --lazy`).
    LazyUnmount,
    /// The daemon outgrows the memory limit of its control group and the kernel kills it.
    Oom,
}

/// Defines the kinds of faults: their names in scenario files, and one fault of each.
macro_rules! kinds {
    ($($kind:ident = $name:literal, $pattern:pat => $sample:expr,)*) => {
        /// A fault without its parameters, as backends declare it.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            schemars::JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum FaultKind {
            $( #[doc = concat!("[`Fault::", stringify!($kind), "`].")] $kind, )*
        }

        impl FaultKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$( Self::$kind, )*];

            /// Its name in scenario files.
            pub fn name(self) -> &'static str {
                match self { $( Self::$kind => $name, )* }
            }

            /// A fault of this kind.
            pub fn sample(self) -> Fault {
                match self { $( Self::$kind => $sample, )* }
            }
        }

        impl Fault {
            /// The kind of the fault.
            pub fn kind(&self) -> FaultKind {
                match self { $( $pattern => FaultKind::$kind, )* }
            }
        }
    };
}

kinds! {
    Kill = "kill", Self::Kill => Fault::Kill,
    Terminate = "terminate", Self::Terminate => Fault::Terminate,
    Delete = "delete", Self::Delete => Fault::Delete,
    ForceDelete = "force_delete", Self::ForceDelete => Fault::ForceDelete,
    Exit = "exit", Self::Exit => Fault::Exit,
    KillParent = "kill_parent", Self::KillParent => Fault::KillParent,
    Stop = "stop", Self::Stop => Fault::Stop,
    Continue = "continue", Self::Continue => Fault::Continue,
    Abort = "abort", Self::Abort => Fault::Abort,
    Slow = "slow", Self::Slow(_) => Fault::slow(1_000),
    Errors = "errors", Self::Errors(_) => Fault::errors(Errno::EIO),
    Unmount = "unmount", Self::Unmount => Fault::Unmount,
    LazyUnmount = "lazy_unmount", Self::LazyUnmount => Fault::LazyUnmount,
    Oom = "oom", Self::Oom => Fault::Oom,
}

impl Fault {
    /// The daemon answers all requests this many milliseconds later.
    pub fn slow(delay_ms: u64) -> Self {
        Self::Slow(PerOperation::All(delay_ms))
    }

    /// The daemon answers all requests with this error.
    pub fn errors(errno: Errno) -> Self {
        Self::Errors(PerOperation::All(errno))
    }

    /// Whether it concerns the node's mount table and not the workload.
    pub fn is_on_the_node(&self) -> bool {
        matches!(self, Self::Unmount | Self::LazyUnmount)
    }

    /// Whether it ends another fault.
    pub fn ends_a_fault(&self) -> bool {
        match self {
            Self::Continue | Self::Slow(PerOperation::All(0)) => true,
            Self::Errors(errno) => *errno == PerOperation::All(Errno::NONE),
            _ => false,
        }
    }

    /// Whether the daemon is expected to be gone afterwards.
    pub fn ends_the_daemon(&self) -> bool {
        matches!(
            self,
            Self::Kill
                | Self::Terminate
                | Self::Delete
                | Self::ForceDelete
                | Self::Exit
                | Self::KillParent
                | Self::Oom
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Kill => "kill (SIGKILL to the daemon)",
            Self::Terminate => "terminate (SIGTERM, clean unmount)",
            Self::Delete => "delete (SIGTERM, then the namespaces are torn down)",
            Self::ForceDelete => {
                "force_delete (SIGTERM, SIGKILL 2 s later, then the namespaces go)"
            }
            Self::Exit => "exit (the daemon unmounts and ends by itself)",
            Self::KillParent => "kill_parent (SIGKILL to process 1 of the container)",
            Self::Stop => "stop (SIGSTOP, the daemon hangs)",
            Self::Continue => "continue (SIGCONT)",
            Self::Abort => "abort (fusectl ends the connection)",
            Self::Slow(PerOperation::All(0)) => "slow ends (the daemon answers at once again)",
            Self::Slow(delay_ms) => {
                return write!(formatter, "slow (the daemon answers later, in ms: {delay_ms})");
            }
            Self::Errors(PerOperation::All(Errno::NONE)) => "errors end (the daemon answers again)",
            Self::Errors(errno) => return write!(formatter, "errors (the daemon answers {errno})"),
            Self::Unmount => "unmount on the node",
            Self::LazyUnmount => "lazy unmount on the node",
            Self::Oom => "oom (the daemon outgrows its memory limit)",
        };
        formatter.write_str(words)
    }
}

/// A request of the kernel to a FUSE filesystem that a fault can single out, by the name that libfuse gives
/// it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A name is looked up in a directory.
    Lookup,
    /// Attributes are read.
    Getattr,
    /// Attributes or the size are changed.
    Setattr,
    /// A file is opened.
    Open,
    /// A file is read.
    Read,
    /// A file is written.
    Write,
    /// A file is made.
    Create,
    /// A file is removed.
    Unlink,
    /// A directory is listed.
    Readdir,
    /// The free space is asked for, as `df` does.
    Statfs,
    /// A file is written to its store.
    Fsync,
}

/// Effect of a fault on a daemon's answers: the same for all operations, or for single ones.
///
/// Written as a value, `5000`, or as a map, `{readdir: 5000}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum PerOperation<T> {
    /// For all operations.
    All(T),
    /// For these operations; the others are answered normally.
    Each(BTreeMap<Operation, T>),
}

impl<T> PerOperation<T> {
    /// The effect on an operation, if there is one.
    pub fn of(&self, operation: Operation) -> Option<&T> {
        match self {
            Self::All(value) => Some(value),
            Self::Each(values) => values.get(&operation),
        }
    }

    /// All effects.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        let (all, each) = match self {
            Self::All(value) => (Some(value), None),
            Self::Each(values) => (None, Some(values.values())),
        };
        all.into_iter().chain(each.into_iter().flatten())
    }
}

impl<T: fmt::Display> fmt::Display for PerOperation<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(value) => write!(formatter, "{value}"),
            Self::Each(values) => {
                let each = values.iter().map(|(operation, value)| {
                    let name = format!("{operation:?}").to_lowercase();
                    format!("{name}: {value}")
                });
                formatter.write_str(&each.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for PerOperation<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsWritten<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for AsWritten<T> {
            type Value = PerOperation<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value, or a map from operations such as readdir to values")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(PerOperation::All)
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(PerOperation::All)
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(PerOperation::All)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let map = de::value::MapAccessDeserializer::new(map);
                let each: BTreeMap<Operation, T> = BTreeMap::deserialize(map)?;
                if each.is_empty() {
                    let words = "no operation given; write a value for all, or one such as readdir";
                    return Err(de::Error::custom(words));
                }
                Ok(PerOperation::Each(each))
            }
        }

        deserializer.deserialize_any(AsWritten(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_of_all_operations_and_a_map_of_some() {
        let read = |json: &str| serde_json::from_str::<PerOperation<u64>>(json);
        let all = read("5").expect("a value");
        assert_eq!(all.of(Operation::Read), Some(&5));
        let some = read(r#"{"readdir": 7}"#).expect("a map");
        assert_eq!((some.of(Operation::Readdir), some.of(Operation::Read)), (Some(&7), None));
        assert_eq!(some.to_string(), "readdir: 7");
        assert!(read("{}").expect_err("no effect").to_string().contains("no operation given"));
        let error = read(r#"{"raeddir": 7}"#).expect_err("no operation");
        assert!(error.to_string().contains("readdir"), "{error}");
    }
}
