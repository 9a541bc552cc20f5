//! Renderings of a report of `propagation`: text, HTML, Markdown, JUnit, and the mount graph as SVG,
//! DOT and text.
//!
//! All are pure functions of a [`Report`](propagation_model::Report), those in [`comparison`] of a
//! [`Comparison`](propagation_model::comparison::Comparison). [`timeline`], [`graph`] and
//! [`accounting`] are the models that they draw; [`words`] makes any text fit to be shown.

pub mod accounting;
pub mod advice;
pub mod comparison;
mod decision;
pub mod graph;
pub mod html;
pub mod junit;
pub mod markdown;
pub mod reproduce;
pub mod text;
pub mod time;
pub mod timeline;
pub mod words;

pub use decision::Decision;

#[cfg(test)]
mod tests;
