//! Reading input files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// When it cannot be read, is larger, or is not a regular file: a FIFO may wait for its writer for ever, and a
/// device may have no end.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Before it is opened: to open a FIFO is to wait.
    let found = fs::metadata(path)?;
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file; write its content into one"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_this_size_is_refused() {
        let path = std::env::temp_dir().join(format!("propagation-input-{}", std::process::id()));
        fs::write(&path, [0; 10]).expect("written");
        let refused = read(&path, 9).map_err(|error| error.to_string());
        let whole = read(&path, 10).map(|bytes| bytes.len()).ok();
        fs::remove_file(&path).expect("removed");
        assert_eq!(refused, Err("it is larger than 9 bytes".into()));
        assert_eq!(whole, Some(10));
        for path in ["/dev/zero", "/dev/null", "/"] {
            assert!(read(Path::new(path), 9).is_err(), "{path}");
        }
    }
}
