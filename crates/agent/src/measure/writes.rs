//! Writing: one file from its beginning, and small files that replace others.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use propagation_protocol::measure::{ENTRY_BYTES, Measured};

use super::meter::Meter;
use super::reads::CHUNK_BYTES;

/// How many names the small files have in turn.
const NAMES: u64 = 16;

/// Writes a file and syncs it; the sync belongs to the time.
pub(super) fn sequential(directory: &Path, bytes: u64) -> Measured {
    let mut meter = Meter::begin();
    let path = directory.join(format!("written-{}.bin", std::process::id()));
    match File::create(&path) {
        Ok(mut file) => {
            let chunk = vec![0x5a; CHUNK_BYTES];
            let mut left = bytes;
            while left > 0 {
                let length = usize::try_from(left).map_or(CHUNK_BYTES, |n| n.min(CHUNK_BYTES));
                let write = || file.write_all(&chunk[..length]).map(|()| length as u64);
                match meter.operation(write) {
                    Some(written) => left -= written,
                    None => break,
                }
            }
            if let Err(error) = file.sync_all() {
                meter.failed(&error);
            }
        }
        Err(error) => meter.failed(&error),
    }
    let measured = meter.finish();
    // Not part of the time; what cannot be removed is written over next time.
    let _ = fs::remove_file(path);
    measured
}

/// Writes small files as careful programs do: under another name, synced, then renamed.
pub(super) fn small_files(directory: &Path, operations: u64) -> Measured {
    let mut meter = Meter::begin();
    let own = std::process::id();
    let new = directory.join(format!("new-{own}"));
    let content = [0x5a; ENTRY_BYTES as usize];
    for number in 0..operations {
        let name = directory.join(format!("small-{own}-{}", number % NAMES));
        let replace = || {
            let mut file = File::create(&new)?;
            file.write_all(&content)?;
            file.sync_all()?;
            drop(file);
            fs::rename(&new, &name).map(|()| ENTRY_BYTES)
        };
        if meter.operation(replace).is_none() {
            break;
        }
    }
    let measured = meter.finish();
    for number in 0..NAMES.min(operations) {
        let _ = fs::remove_file(directory.join(format!("small-{own}-{number}")));
    }
    measured
}
