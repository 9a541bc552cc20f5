//! What the filesystem does when the directory that it shows changes under it.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use fuser::{FileAttr, RenameFlags};
use rustix::fs::{AtFlags, RenameFlags as RenameHow};
use tempfile::TempDir;

use super::operations::Change;
use super::*;

/// A directory with `shown` and `outside` in it, and the filesystem that shows the first.
fn mirror() -> (TempDir, Mirror) {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["shown/d", "outside"] {
        fs::create_dir_all(directory.path().join(name)).expect("a directory");
        fs::write(directory.path().join(name).join("f"), name).expect("a file");
    }
    let root = fs::File::open(directory.path().join("shown")).expect("the directory");
    let mirror = Mirror::new(root.into(), false).expect("the filesystem");
    (directory, mirror)
}

impl Mirror {
    fn meet(&self, parent: INodeNo, name: &str) -> FileAttr {
        self.entry(parent, name.as_ref()).expect(name)
    }

    fn content(&self, inode: INodeNo) -> Result<String, Errno> {
        let file = self.root.open(&self.path(inode)?, OFlags::RDONLY, Mode::empty())?;
        std::io::read_to_string(file).map_err(|error| errno_of(&error))
    }
}

#[test]
fn no_link_leads_out_of_the_directory() {
    let (directory, mirror) = mirror();
    let [shown, outside] = ["shown", "outside"].map(|name| directory.path().join(name));
    let inner = mirror.meet(INodeNo::ROOT, "d").ino;
    let file = mirror.meet(inner, "f").ino;
    fs::rename(shown.join("d"), directory.path().join("away")).expect("it is moved");
    symlink(&outside, shown.join("d")).expect("a link");

    let before = fs::metadata(outside.join("f")).expect("the file");
    let change = |change: Change| mirror.change(file, &change, None).map(drop);
    for (what, done) in [
        ("read", mirror.content(file).map(drop)),
        ("list", mirror.list(inner).map(drop)),
        ("look up", mirror.entry(inner, "f".as_ref()).map(drop)),
        ("change the mode", change(Change { mode: Some(0o777), ..Change::default() })),
        ("change the owner", change(Change { uid: Some(7), ..Change::default() })),
        ("cut", change(Change { size: Some(0), ..Change::default() })),
        ("remove", mirror.remove(inner, "f".as_ref(), AtFlags::empty())),
    ] {
        assert!(matches!(done, Err(Errno::ELOOP | Errno::ENOTDIR)), "{what}: {done:?}");
    }
    let to = (INodeNo::ROOT, "g".as_ref());
    let renamed = mirror.rename_entry((inner, "f".as_ref()), to, RenameFlags::empty());
    assert_eq!(renamed, Err(Errno::ELOOP));
    let after = fs::metadata(outside.join("f")).expect("the file");
    let what = |file: &fs::Metadata| (file.mode(), file.uid(), file.len(), file.nlink());
    assert_eq!(what(&after), what(&before));
}

#[test]
fn a_link_is_changed_itself_and_can_be_read() {
    let (directory, mirror) = mirror();
    let target = directory.path().join("outside/f");
    symlink(&target, directory.path().join("shown/link")).expect("a link");
    let link = mirror.meet(INodeNo::ROOT, "link").ino;
    let found = mirror.root.find(&mirror.path(link).expect("its path")).expect("the link");
    assert_eq!(found.link_target().expect("its target").to_bytes(), target.as_os_str().as_bytes());
    let mode = fs::metadata(&target).expect("the file").permissions().mode();
    let change = Change { mode: Some(0o777), ..Change::default() };
    assert!(mirror.change(link, &change, None).is_err(), "links have no mode of their own");
    assert_eq!(fs::metadata(&target).expect("the file").permissions().mode(), mode);
}

#[test]
fn mode_size_and_times_of_a_file_are_changed() {
    let (directory, mirror) = mirror();
    let inner = mirror.meet(INodeNo::ROOT, "d").ino;
    let file = mirror.meet(inner, "f").ino;
    let modified = Some(fuser::TimeOrNow::SpecificTime(std::time::UNIX_EPOCH));
    let change = Change { mode: Some(0o604), size: Some(2), modified, ..Change::default() };
    let told = mirror.change(file, &change, None).expect("it is changed");
    assert_eq!((told.perm, told.size, told.mtime), (0o604, 2, std::time::UNIX_EPOCH));
    let there = fs::metadata(directory.path().join("shown/d/f")).expect("the file");
    assert_eq!((there.mode() & 0o7777, there.len(), there.mtime()), (0o604, 2, 0));
}

#[test]
fn a_file_that_was_removed_is_not_another_one_of_its_name() {
    let (directory, mirror) = mirror();
    let inner = mirror.meet(INodeNo::ROOT, "d").ino;
    let file = mirror.meet(inner, "f").ino;
    mirror.remove(inner, "f".as_ref(), AtFlags::empty()).expect("it is removed");
    fs::write(directory.path().join("shown/d/f"), "another").expect("a file");
    assert_eq!(mirror.content(file), Err(Errno::ESTALE));
    let another = mirror.meet(inner, "f").ino;
    assert_eq!(mirror.content(another).as_deref(), Ok("another"));
}

#[test]
fn directories_that_change_places_keep_what_lies_in_them() {
    let (directory, mirror) = mirror();
    let e = directory.path().join("shown/e");
    fs::create_dir(&e).expect("a directory");
    fs::write(e.join("f"), "shown/e").expect("a file");
    let [d, e] = ["d", "e"].map(|name| mirror.meet(INodeNo::ROOT, name).ino);
    let files = [d, e].map(|inode| mirror.meet(inode, "f").ino);
    let how = RenameFlags::from_bits_retain(RenameHow::EXCHANGE.bits());
    let [from, to] = ["d", "e"].map(|name| (INodeNo::ROOT, name.as_ref()));
    mirror.rename_entry(from, to, how).expect("they change places");
    assert_eq!(mirror.meet(INodeNo::ROOT, "e").ino, d);
    let contents = files.map(|file| mirror.content(file));
    assert_eq!(contents, ["shown/d", "shown/e"].map(|text| Ok(text.to_owned())));
}
