//! See `propagation_fuzz_targets::mountinfo`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| propagation_fuzz_targets::mountinfo(bytes));
