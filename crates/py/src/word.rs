//! Words of scenarios, as Python gives them.

use propagation_core::scenario;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::de::DeserializeOwned;

use crate::error::{OrRaise, from_plain};

/// A value of the scenario's vocabulary: a word, or a mapping for one that has a value of its own.
#[derive(FromPyObject)]
pub(crate) enum Word<'py> {
    #[pyo3(transparent, annotation = "str")]
    Text(String),
    #[pyo3(transparent, annotation = "dict")]
    Mapping(Bound<'py, PyDict>),
}

impl Word<'_> {
    /// What it means.
    pub(crate) fn read<T: DeserializeOwned>(self, py: Python<'_>, what: &str) -> PyResult<T> {
        let value = match self {
            Self::Text(text) => text.into(),
            Self::Mapping(mapping) => from_plain(&mapping)?,
        };
        scenario::part(&format!("{what} {value}"), value).or_raise(py)
    }
}
