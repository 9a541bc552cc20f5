//! Tests that look at the module as a whole: on what a kernel wrote, and on whatever can be made
//! up.

mod captured;
mod properties;
