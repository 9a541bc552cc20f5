//! The renderings of a comparison of transports, and its answer.

mod answer;
mod ends;
mod figures;
mod html;
mod markdown;
mod pictures;
mod text;
mod timelines;

pub use answer::Answer;
pub use html::render as html;
pub use markdown::render as markdown;
pub use text::render as text;

#[cfg(test)]
mod tests;
