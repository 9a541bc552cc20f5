//! Renderings of a report of `propagation`: text, HTML, Markdown, JUnit, and the mount graph as SVG,
//! DOT and text.
//!
//! All are pure functions of a [`Report`](propagation_model::Report), those in [`comparison`] of a
//! [`Comparison`](propagation_model::comparison::Comparison). [`timeline`], [`graph`] and
//! [`accounting`] are the models that they draw; [`words`] makes any text fit to be shown.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), propagation_core::Error> {
//! use propagation_core::fake::FakeBackend;
//! use propagation_core::prelude::*;
//! use propagation_report::text::{Detail, Style};
//! use propagation_report::{html, junit, markdown, text};
//!
//! let report = Runner::new(Plan::default())?.run(&FakeBackend::default()).await?;
//! let words = text::render(&report, Style::plain(Detail::Full));
//! assert!(words.contains("Verdict: full_success"));
//! assert!(html::render(&report).starts_with("<!DOCTYPE html>"));
//! assert!(markdown::render(&report).starts_with('#'));
//! assert!(junit::render(&report).contains("<testsuite"));
//! # Ok(()) }
//! ```

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
