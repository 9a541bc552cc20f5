//! Errors of the core as exceptions of the package.

use propagation_core::{Error, ErrorKind};
use pyo3::prelude::*;
use serde::Serialize;

/// The exception for an error. The classes are written in Python, in `propagation/_errors.py`:
/// classes of the stable ABI cannot extend `Exception`.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let parts = (error.kind().as_str(), error.operation(), error.reason(), error.fix());
    let made =
        py.import("propagation._errors").and_then(|module| module.call_method1("_of_kind", parts));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// The names of all kinds of errors, so that a test can see that each has a class.
#[pyfunction]
pub(crate) fn error_kinds() -> Vec<&'static str> {
    ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect()
}

/// Turns the error of a result into an exception.
pub(crate) trait OrRaise<T> {
    /// The value, or the exception.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for Result<T, Error> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raise(py, &error))
    }
}

/// An error of something that the caller gave.
pub(crate) fn invalid(
    operation: impl Into<String>,
    reason: impl Into<String>,
    fix: impl Into<String>,
) -> Error {
    Error::new(ErrorKind::InvalidInput, operation, reason).with_fix(fix)
}

/// For an object that came into this process by fork(2): its threads did not.
pub(crate) fn other_process(owner: u32) -> Error {
    invalid(
        "use a run of another process",
        format!("it was started by process {owner}, and a fork takes no threads along"),
        "start one in this process",
    )
}

/// What Python's `json` makes of a value: dicts, lists, strings and numbers.
pub(crate) fn to_plain<'py>(
    py: Python<'py>,
    value: &impl Serialize,
) -> PyResult<Bound<'py, PyAny>> {
    let json = serde_json::to_string(value).map_err(|error| {
        raise(py, &Error::from_source(ErrorKind::Internal, "write a value as JSON", error))
    })?;
    py.import("json")?.call_method1("loads", (json,))
}

/// The JSON of what Python's `json` can write.
pub(crate) fn from_plain(value: &Bound<'_, PyAny>) -> PyResult<serde_json::Value> {
    let py = value.py();
    let json: String = py.import("json")?.call_method1("dumps", (value,))?.extract()?;
    serde_json::from_str(&json)
        .map_err(|error| invalid("read a value", error.to_string(), "use what JSON can write"))
        .or_raise(py)
}
