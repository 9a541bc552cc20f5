//! Many small files: listing them with their attributes, and opening them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use propagation_protocol::measure::{ENTRY_BYTES, Measured, entry_name};

use super::meter::Meter;
use super::{DataSet, Numbers};

/// Lists a directory and asks for the attributes of every entry.
pub(super) fn scan(directory: &Path) -> Measured {
    let mut meter = Meter::begin();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            meter.failed(&error);
            return meter.finish();
        }
    };
    for entry in entries {
        let look = || fs::symlink_metadata(entry?.path()).map(|_| 0);
        if meter.operation(look).is_none() {
            break;
        }
        meter.first_byte();
    }
    meter.finish()
}

/// Opens small files, reads and closes each.
pub(super) fn open(set: DataSet<'_>, operations: u64, seed: u64) -> Measured {
    let mut meter = Meter::begin();
    let mut numbers = Numbers(seed);
    let directory = set.small_files();
    for _ in 0..operations {
        let path = directory.join(entry_name(numbers.below(set.entries)));
        if meter.operation(|| read_whole(&path)).is_none() {
            break;
        }
    }
    meter.finish()
}

/// Opens a small file, reads it to its end, closes it.
pub(super) fn read_whole(path: &Path) -> io::Result<u64> {
    let mut content = [0; ENTRY_BYTES as usize];
    File::open(path)?.read_exact_at(&mut content, 0)?;
    Ok(ENTRY_BYTES)
}
