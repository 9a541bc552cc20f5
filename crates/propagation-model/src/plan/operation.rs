//! Requests to a FUSE filesystem, and what a fault says of each.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

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

/// What a fault says of a daemon's answers: the same of all, or something of single operations.
///
/// Written as a value, `5000`, or as a map, `{readdir: 5000}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum PerOperation<T> {
    /// Of all operations.
    All(T),
    /// Of these; the others are answered as ever.
    Each(BTreeMap<Operation, T>),
}

impl<T> PerOperation<T> {
    /// What is said of an operation, if anything is.
    pub fn of(&self, operation: Operation) -> Option<&T> {
        match self {
            Self::All(value) => Some(value),
            Self::Each(values) => values.get(&operation),
        }
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
                BTreeMap::deserialize(map).map(PerOperation::Each)
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
        let error = read(r#"{"raeddir": 7}"#).expect_err("no operation");
        assert!(error.to_string().contains("readdir"), "{error}");
    }
}
