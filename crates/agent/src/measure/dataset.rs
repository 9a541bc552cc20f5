//! The data set of measurements.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use propagation_protocol::measure::{
    ENTRIES_DIRECTORY, ENTRY_BYTES, MEDIA_FILE, SCRATCH_DIRECTORY, entry_name,
};

use super::Numbers;

/// Makes a long file, many small ones, and a directory to write into, open to every user. The content does
/// not repeat, so compression does not help.
///
/// # Errors
/// The filesystem's, such as `ENOSPC`.
pub fn make(directory: &Path, entries: u64, media_bytes: u64) -> io::Result<()> {
    let small_files = directory.join(ENTRIES_DIRECTORY);
    let scratch = directory.join(SCRATCH_DIRECTORY);
    fs::create_dir_all(&small_files)?;
    fs::create_dir_all(&scratch)?;
    fs::set_permissions(&scratch, fs::Permissions::from_mode(0o777))?;
    let mut numbers = Numbers(1);
    let mut block = vec![0; 1 << 20];
    let mut media = File::create(directory.join(MEDIA_FILE))?;
    let mut left = media_bytes;
    while left > 0 {
        fill(&mut block, &mut numbers);
        let length = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        media.write_all(&block[..length])?;
        left -= length as u64;
    }
    for number in 0..entries {
        let content = &mut block[..ENTRY_BYTES as usize];
        fill(content, &mut numbers);
        fs::write(small_files.join(entry_name(number)), &*content)?;
    }
    Ok(())
}

fn fill(block: &mut [u8], numbers: &mut Numbers) {
    for word in block.chunks_exact_mut(8) {
        word.copy_from_slice(&numbers.next().to_ne_bytes());
    }
}
