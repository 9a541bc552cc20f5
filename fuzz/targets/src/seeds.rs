//! Inputs from the repository's own files.

use std::fs;
use std::path::{Path, PathBuf};

use propagation_core::Report;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files below `directory` whose paths please, in order.
fn files(directory: &Path, wanted: fn(&Path) -> bool) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        match path.is_dir() {
            true => found.extend(files(&path, wanted)),
            false if wanted(&path) => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

fn read(files: Vec<PathBuf>) -> Vec<Vec<u8>> {
    files.iter().map(|path| fs::read(path).expect("a file of the repository")).collect()
}

/// The library of scenarios.
pub(crate) fn scenarios() -> Vec<Vec<u8>> {
    let yaml = |path: &Path| path.extension().is_some_and(|extension| extension == "yaml");
    read(files(&root().join("scenarios"), yaml))
}

/// The reports that the tests of the renderings and of the diagnosis use.
pub(crate) fn reports() -> Vec<Vec<u8>> {
    let report = |path: &Path| {
        let json = path.extension().is_some_and(|extension| extension == "json");
        json && path.parent().is_some_and(|parent| parent.ends_with("fixtures"))
    };
    read(files(&root().join("crates"), report))
}

/// The mount tables of the parser's tests and of these reports, and lines with everything that may be in one.
pub(crate) fn mountinfo() -> Vec<Vec<u8>> {
    let mut all = vec![
        b"27 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
          40 27 0:46 / /bridge rw shared:2 master:1 propagate_from:3 unbindable - tmpfs tmpfs rw\n"
            .to_vec(),
        b"41 40 0:47 /a\\040b /c\\011d\\012e\\134f rw,nosuid - fuse.x#y s\\040p rw,user_id=0\n"
            .to_vec(),
    ];
    let table = |path: &Path| path.extension().is_some_and(|extension| extension == "mountinfo");
    all.extend(read(files(&root().join("crates"), table)));
    for report in reports().iter().filter_map(|json| Report::from_json(json).ok()) {
        let tables = report.captures.iter().flat_map(|capture| &capture.tables);
        all.extend(tables.take(3).map(|one| one.table.to_string().into_bytes()));
    }
    all
}
