//! See `propagation_fuzz_targets::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| propagation_fuzz_targets::frames(bytes));
