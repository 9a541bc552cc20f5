//! Every target on its seeds, and on many inputs that are a few changes away from one.
#![cfg(target_os = "linux")]

use propagation_fuzz_targets::{TARGETS, Target};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// A change of an input; places are given as parts of its length.
#[derive(Debug, Clone)]
enum Change {
    Set(u16, u8),
    Insert(u16, Vec<u8>),
    Remove(u16, u8),
    Repeat(u16, u8),
    Cut(u16),
    /// The rest of another seed.
    Splice(u16, usize, u16),
}

/// What formats treat in a special way.
const WORDS: &[&str] = &[
    "null",
    "-1",
    "0",
    "4294967296",
    "18446744073709551616",
    "1e400",
    "\"\"",
    "[",
    "]",
    "{",
    "}",
    ":",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "\t",
    "&a ",
    "*a",
    "<<: ",
    "!!int ",
    "|\n",
    "#",
    "\u{1b}[2J",
    "\\u001b]0;x\\u0007",
    "<script>",
    "]]>",
    "\u{202e}",
    "\\000",
    "\\012",
    "../",
    "/",
    " - ",
    "shared:",
];

fn change() -> impl Strategy<Value = Change> {
    let word = proptest::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec());
    prop_oneof![
        (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (any::<u16>(), word).prop_map(|(at, word)| Change::Insert(at, word)),
        (any::<u16>(), any::<u8>()).prop_map(|(at, length)| Change::Remove(at, length)),
        (any::<u16>(), any::<u8>()).prop_map(|(at, length)| Change::Repeat(at, length)),
        any::<u16>().prop_map(Change::Cut),
        (any::<u16>(), any::<usize>(), any::<u16>())
            .prop_map(|(at, other, from)| Change::Splice(at, other, from)),
    ]
}

fn place(input: &[u8], part: u16) -> usize {
    input.len() * usize::from(part) / usize::from(u16::MAX)
}

fn apply(change: &Change, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let range = |input: &[u8], at: u16, length: u8| {
        let start = place(input, at);
        start..input.len().min(start + usize::from(length))
    };
    match change {
        Change::Set(at, byte) => {
            let at = place(input, *at);
            if let Some(found) = input.get_mut(at) {
                *found = *byte;
            }
        }
        Change::Insert(at, word) => {
            let at = place(input, *at);
            input.splice(at..at, word.iter().copied());
        }
        Change::Remove(at, length) => drop(input.drain(range(input, *at, *length))),
        Change::Repeat(at, length) => {
            let range = range(input, *at, *length);
            let again = input[range.clone()].to_vec();
            input.splice(range.start..range.start, again);
        }
        Change::Cut(at) => input.truncate(place(input, *at)),
        Change::Splice(at, other, from) => {
            input.truncate(place(input, *at));
            let other = &seeds[other % seeds.len()];
            input.extend(&other[place(other, *from)..]);
        }
    }
}

fn try_many(target: &Target, cases: u32) {
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{} has no seeds", target.name);
    seeds.iter().for_each(|seed| (target.run)(seed));
    let inputs = (0..seeds.len(), proptest::collection::vec(change(), 1..6));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let tried = TestRunner::new(config).run(&inputs, |(seed, changes)| {
        let mut input = seeds[seed].clone();
        changes.iter().for_each(|change| apply(change, &mut input, &seeds));
        (target.run)(&input);
        Ok(())
    });
    if let Err(failure) = tried {
        panic!("{}: {failure}", target.name);
    }
}

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("there is such a target")
}

#[test]
fn mountinfo() {
    try_many(target("mountinfo"), 5_000);
}

#[test]
fn scenario() {
    try_many(target("scenario"), 3_000);
}

#[test]
fn report() {
    try_many(target("report"), 600);
}

#[test]
fn frames() {
    try_many(target("frames"), 3_000);
}

/// A target that finds nothing would be found by nobody.
#[test]
fn a_target_that_panics_is_a_failure() {
    let bad = Target {
        name: "bad",
        run: |bytes| assert!(!bytes.starts_with(b"{}"), "found"),
        seeds: || vec![b"{ }".to_vec()],
    };
    let found = std::panic::catch_unwind(|| try_many(&bad, 5_000));
    assert!(found.is_err(), "two braces side by side were not found");
}
