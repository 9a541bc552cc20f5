//! The timestamped log file that every run writes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use propagation_core::run_id::RunId;

/// A log file, or nothing when it could not be made: a log is not worth failing a run for.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<Mutex<File>>,
    path: PathBuf,
}

impl Log {
    /// Opens `fuse-test-<run id>.log` in `directory`, or in the user's state directory.
    pub(crate) fn open(directory: Option<&Path>, run_id: &RunId) -> Self {
        let directory = directory.map_or_else(state_directory, Path::to_owned);
        let path = directory.join(format!("fuse-test-{run_id}.log"));
        let opened = fs::create_dir_all(&directory).and_then(|()| File::create_new(&path));
        let file = match opened {
            Ok(file) => Some(Mutex::new(file)),
            Err(error) => {
                let _ = writeln!(
                    std::io::stderr(),
                    "warning: no log file: {}: {error}",
                    path.display()
                );
                None
            }
        };
        Self { file, path }
    }

    /// Where it is, if there is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|_| self.path.as_path())
    }

    /// Writes one line with the time before it.
    pub(crate) fn line(&self, text: &str) {
        let Some(file) = &self.file else { return };
        let now = jiff::Timestamp::now();
        if let Ok(mut file) = file.lock() {
            // A disk that fills up in the middle must not end the run.
            let _ = writeln!(file, "{now:.6} {text}");
        }
    }
}

/// `$XDG_STATE_HOME/propagation`, `~/.local/state/propagation`, or the temporary directory.
fn state_directory() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(state) = set("XDG_STATE_HOME") {
        return PathBuf::from(state).join("propagation");
    }
    match set("HOME") {
        Some(home) => PathBuf::from(home).join(".local/state/propagation"),
        None => std::env::temp_dir().join("propagation"),
    }
}
