//! The timestamped log file that every run writes.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use propagation_core::run_id::RunId;
use propagation_report::text::one_line;

use crate::files::Directory;

/// A log file, or nothing when it could not be made: a log is not worth failing a run for.
#[derive(Debug)]
pub(crate) struct Log {
    open: Option<(PathBuf, Mutex<File>)>,
}

impl Log {
    /// Opens `fuse-test-<run id>.log` in `directory`, or in the user's state directory, where old ones
    /// are removed.
    pub(crate) fn open(directory: Option<&Path>, run_id: &RunId) -> Self {
        let name = file_name(run_id.as_str());
        let opened = match directory {
            Some(directory) => open(directory, &name),
            None => in_state_directory(&name),
        };
        let open = opened
            .inspect_err(|reason| {
                // With standard error closed there is nobody to tell.
                let _ = writeln!(io::stderr(), "warning: no log file: {}", one_line(reason));
            })
            .ok();
        Self { open }
    }

    /// Where it is, if there is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.open.as_ref().map(|(path, _)| path.as_path())
    }

    /// Writes one line with the time before it; what a terminal would obey is escaped.
    pub(crate) fn line(&self, text: &str) {
        let Some((_, file)) = &self.open else { return };
        let line = format!("{:.6} {}\n", jiff::Timestamp::now(), one_line(text));
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        // In one write. A disk that fills up in the middle must not end the run.
        let _ = file.write_all(line.as_bytes());
    }

    /// Copies what it holds so far: from the open file, whatever its name leads to by now.
    pub(crate) fn copy_to(&self, other: &mut File) -> io::Result<()> {
        let Some((_, file)) = &self.open else { return Ok(()) };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.rewind()?;
        io::copy(&mut Read::by_ref(&mut *file), other).map(drop)
    }
}

fn open(directory: &Path, name: &str) -> Result<(PathBuf, Mutex<File>), String> {
    let failed = |error: io::Error| format!("{}: {error}", directory.join(name).display());
    let file = Directory::make(directory).and_then(|directory| directory.create_new(name));
    Ok((directory.join(name), Mutex::new(file.map_err(failed)?)))
}

fn in_state_directory(name: &str) -> Result<(PathBuf, Mutex<File>), String> {
    let directory = state_directory().ok_or(
        "neither XDG_STATE_HOME nor HOME names an absolute path; --log-dir says where it goes",
    )?;
    if let Ok(directory) = Directory::make(&directory) {
        thin(&directory);
    }
    open(&directory, name)
}

const PREFIX: &str = "fuse-test-";
const SUFFIX: &str = ".log";

fn file_name(run_id: &str) -> String {
    format!("{PREFIX}{run_id}{SUFFIX}")
}

/// How many logs the state directory holds at most.
const KEPT: usize = 500;

/// Makes room for one more log by removing the oldest.
fn thin(directory: &Directory) {
    let is_log = |name: &String| {
        let id = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
        id.is_some_and(|id| RunId::parse(id).is_ok())
    };
    // Their names begin with their times. What cannot be listed or removed stays.
    let mut logs = directory.names().unwrap_or_default();
    logs.retain(is_log);
    let too_many = (logs.len() + 1).saturating_sub(KEPT);
    for name in &logs[..too_many] {
        let _ = directory.remove(name);
    }
}

/// `$XDG_STATE_HOME/propagation` or `~/.local/state/propagation`. A relative path in a variable is
/// ignored, as the XDG Base Directory Specification wants it.
fn state_directory() -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).and_then(absolute);
    let home = || std::env::home_dir().and_then(absolute).map(|home| home.join(".local/state"));
    Some(state.or_else(home)?.join("propagation"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_logs_make_room_and_other_files_stay() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let directory = Directory::make(scratch.path()).expect("there");
        for number in 0..KEPT + 20 {
            directory
                .write(&file_name(&format!("20200101t{number:06}-00000000")), b"")
                .expect("made");
        }
        directory.write("notes.log", b"").expect("made");
        thin(&directory);
        let names = directory.names().expect("names");
        // One less than may be kept, and the notes.
        assert_eq!(names.len(), KEPT);
        assert_eq!(names[0], file_name("20200101t000021-00000000"));
        assert!(names.contains(&"notes.log".to_owned()));
    }

    #[test]
    fn lines_are_escaped_and_copied_from_the_open_file() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let run_id = RunId::parse("20200101t000000-00000000").expect("valid");
        let log = Log::open(Some(scratch.path()), &run_id);
        log.line("phase \u{1b}[2J\nstarted");
        std::fs::remove_file(log.path().expect("a log")).expect("removed");
        let directory = Directory::make(scratch.path()).expect("there");
        directory.replace("copy", |file| log.copy_to(file)).expect("copied");
        log.line("later");
        let copy = std::fs::read_to_string(directory.join("copy")).expect("read");
        assert_eq!(copy.lines().count(), 1);
        assert!(copy.ends_with(" phase \\u{1b}[2J\\nstarted\n"), "{copy:?}");
    }
}
