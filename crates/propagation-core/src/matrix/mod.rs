//! The matrix: every combination of the axes of an experiment, each a small scenario.
//!
//! An axis is a name, its values, and what a value does to the plan of a cell ([`AXES`]); adding one is adding an
//! entry there. A [`Matrix`] says which values are taken; [`Matrix::cells`] multiplies them, in a fixed order. The
//! result of one is a [`Cell`]; [`document`] is a pure function of many.
//!
//! ```
//! use propagation_core::matrix::Matrix;
//!
//! let matrix = Matrix::default().with("volume", ["mountpoint"])?.with("fault", ["kill"])?;
//! assert!(matrix.cells().count() >= 100);
//! assert!(matrix.cells().all(|cell| cell.id.contains("volume=mountpoint")));
//! assert!(Matrix::default().cells().count() >= 2_000);
//! # Ok::<(), propagation_core::Error>(())
//! ```

mod axes;
mod cell;
mod document;

use std::collections::BTreeMap;

pub use axes::{AXES, Axis};
pub use cell::{Cell, STEPS, Seen, run_cell};
pub use document::{document, is_documented};

use crate::error::{Error, ErrorKind};
use crate::plan::Plan;
use crate::suggest::nearest;

/// Which values of which axes are multiplied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matrix {
    /// For every axis, in the order of [`AXES`], the values that are taken.
    taken: Vec<Vec<&'static str>>,
}

/// One combination, before it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellPlan {
    /// `axis=value` for every axis, joined by commas: names the cell, and recreates it.
    pub id: String,
    /// The value of every axis.
    pub axes: BTreeMap<String, String>,
    /// The scenario of the cell.
    pub plan: Plan,
}

impl Default for Matrix {
    /// The default values of every axis: 2,000 cells or more.
    fn default() -> Self {
        let usual = |axis: &Axis| axis.values[..axis.usual].iter().map(|(name, _)| *name).collect();
        Self { taken: AXES.iter().map(usual).collect() }
    }
}

impl Matrix {
    /// Takes these values of an axis, in this order; `all` stands for every value that it has.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an unknown axis or value, with a suggestion.
    pub fn with<'a>(
        mut self,
        axis: &str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Error> {
        let index = AXES.iter().position(|known| known.name == axis).ok_or_else(|| {
            let names: Vec<&str> = AXES.iter().map(|axis| axis.name).collect();
            unknown(&format!("axis {axis:?}"), axis, &names)
        })?;
        let known: Vec<&'static str> = AXES[index].values.iter().map(|(name, _)| *name).collect();
        let mut taken = Vec::new();
        for value in values {
            if value == "all" {
                taken.clone_from(&known);
                continue;
            }
            let found = known.iter().find(|name| **name == value);
            let words = || unknown(&format!("value {value:?} of the axis {axis}"), value, &known);
            taken.push(*found.ok_or_else(words)?);
        }
        if taken.is_empty() {
            let operation = format!("take values of the axis {axis}");
            return Err(Error::new(ErrorKind::InvalidInput, operation, "none is named")
                .with_fix(format!("use some of {}", known.join(", "))));
        }
        self.taken[index] = taken;
        Ok(self)
    }

    /// Takes exactly one cell, by its id.
    ///
    /// # Errors
    /// As [`Matrix::with`]; axes that the id does not name keep their values.
    pub fn of_cell(id: &str) -> Result<Self, Error> {
        let mut matrix = Self::default();
        for pair in id.split(',').filter(|pair| !pair.is_empty()) {
            let (axis, value) = pair.split_once('=').ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, format!("read the cell {id:?}"), "no `=` in it")
                    .with_fix("write axis=value, joined by commas")
            })?;
            matrix = matrix.with(axis, [value])?;
        }
        Ok(matrix)
    }

    /// The values taken, by axis.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, &[&'static str])> {
        AXES.iter().zip(&self.taken).map(|(axis, values)| (axis.name, values.as_slice()))
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.taken.iter().map(Vec::len).product()
    }

    /// Whether the matrix has no cells; always false.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All combinations; the last axis varies fastest.
    pub fn cells(&self) -> impl Iterator<Item = CellPlan> + '_ {
        (0..self.len()).map(|number| self.cell(number))
    }

    /// The cell with a number, counted from 0 in the order of [`Matrix::cells`].
    pub fn cell(&self, number: usize) -> CellPlan {
        let mut rest = number;
        let mut picked = vec![""; AXES.len()];
        for (index, values) in self.taken.iter().enumerate().rev() {
            picked[index] = values[rest % values.len()];
            rest /= values.len();
        }
        let mut plan = axes::base();
        for (axis, value) in AXES.iter().zip(&picked) {
            if let Some((_, apply)) = axis.values.iter().find(|(name, _)| name == value) {
                apply(&mut plan);
            }
        }
        let pairs = || AXES.iter().zip(&picked).map(|(axis, value)| (axis.name, *value));
        let id: Vec<String> = pairs().map(|(axis, value)| format!("{axis}={value}")).collect();
        let id = id.join(",");
        plan.name = Some(id.clone());
        let axes = pairs().map(|(axis, value)| (axis.to_owned(), value.to_owned())).collect();
        CellPlan { id, axes, plan }
    }
}

fn unknown(what: &str, word: &str, known: &[&str]) -> Error {
    let fix = match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("use one of {}", known.join(", ")),
    };
    Error::new(ErrorKind::InvalidInput, "choose cells", format!("unknown {what}")).with_fix(fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_a_valid_plan_with_an_id_that_makes_it_again() {
        let mut matrix = Matrix::default();
        for axis in AXES {
            matrix = matrix.with(axis.name, ["all"]).expect("an axis");
        }
        let step = matrix.len() / 997 + 1;
        for number in (0..matrix.len()).step_by(step) {
            let cell = matrix.cell(number);
            // What cannot be (a kept descriptor of an external daemon) is a cell that is skipped.
            let kept = cell.axes["daemon"] != "builtin" && cell.axes["repair"] == "hand_over";
            let errors = cell.axes["daemon"] != "builtin" && cell.axes["fault"] == "errors";
            assert_eq!(cell.plan.validate().is_err(), kept || errors, "{}", cell.id);
            let again = Matrix::of_cell(&cell.id).expect("its own id");
            assert_eq!(again.cells().collect::<Vec<_>>(), [cell]);
        }
    }

    #[test]
    fn what_there_is_not_is_refused_with_a_hint() {
        let error = Matrix::default().with("volum", ["bridge"]).expect_err("no such axis");
        assert!(error.to_string().contains("unknown axis \"volum\""), "{error}");
        assert_eq!(error.fix(), Some("did you mean volume?"));
        let error = Matrix::default().with("fault", ["kil"]).expect_err("no such value");
        assert_eq!(error.fix(), Some("did you mean kill?"));
    }
}
