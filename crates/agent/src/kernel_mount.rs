//! Filesystems whose client is the kernel, such as CIFS and NFS: whether there is one, and mounting it.
//!
//! Options are given one by one through fsconfig(2), with a password read from a file: it is in no command line.
//! The kernel writes into the context's descriptor what it has against a mount.

use std::io::Read as _;
use std::path::Path;

use nix::errno::Errno;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::failure::errno_text;
use crate::mounts::{errno_of, to_nix};

/// Whether the kernel has a filesystem; one that is a module is loaded, where this is allowed. A user who may not mount
/// is answered from the list of those that are there.
///
/// # Errors
/// Those of fsopen(2) but ENODEV, which is the answer, and of reading the list.
pub fn has(filesystem: &str) -> Result<bool, Errno> {
    match fsopen(filesystem, FsOpenFlags::FSOPEN_CLOEXEC).map_err(to_nix) {
        Ok(_) => Ok(true),
        Err(Errno::ENODEV) => Ok(false),
        Err(Errno::EPERM) => std::fs::read_to_string("/proc/filesystems")
            .map(|known| is_in(filesystem, &known))
            .map_err(|error| errno_of(&error)),
        Err(errno) => Err(errno),
    }
}

/// Whether a filesystem is in a list as the kernel prints it (proc(5)).
fn is_in(filesystem: &str, known: &str) -> bool {
    known.lines().any(|line| line.split_whitespace().last() == Some(filesystem))
}

/// A mount whose client is the kernel.
#[derive(Debug, Clone)]
pub struct KernelMount {
    /// The type of the filesystem.
    pub filesystem: String,
    /// What is mounted, such as `//ADDRESS/SHARE`.
    pub source: String,
    /// Its options and their values; a flag has none.
    pub options: Vec<(String, Option<String>)>,
    /// The name of an option, and the file with its value.
    pub secret: Option<(String, String)>,
}

impl KernelMount {
    /// Mounts it at a directory.
    ///
    /// # Errors
    /// What could not be done, and the kernel's words about it.
    pub fn mount(&self, at: &Path) -> Result<(), String> {
        let filesystem = &self.filesystem;
        let failed = |what: &str, errno: Errno| format!("{what}: {}", errno_text(errno));
        let context = fsopen(filesystem.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|errno| failed(&format!("use the filesystem {filesystem}"), to_nix(errno)))?;
        let refused = |what: String, errno| {
            let mut words = String::new();
            let mut context = std::fs::File::from(context.try_clone().map_err(|e| e.to_string())?);
            // One message for each read; without any there is ENODATA.
            let mut message = [0; 1024];
            while let Ok(length @ 1..) = context.read(&mut message) {
                words.push_str("; the kernel says: ");
                words.push_str(String::from_utf8_lossy(&message[..length]).trim());
            }
            Err(failed(&what, to_nix(errno)) + &words)
        };
        let secret = self.secret.as_ref().map(|(name, file)| {
            let read = std::fs::read_to_string(file);
            read.map(|value| (name.clone(), Some(value.trim().to_owned())))
                .map_err(|error| format!("read the value of {name} in {file}: {error}"))
        });
        let source = ("source".to_owned(), Some(self.source.clone()));
        let all = self.options.iter().cloned().chain(secret.transpose()?);
        for (name, value) in std::iter::once(source).chain(all) {
            let set = match value {
                Some(value) => fsconfig_set_string(&context, name.as_str(), value.as_str()),
                None => fsconfig_set_flag(&context, name.as_str()),
            };
            if let Err(errno) = set {
                return refused(format!("set {name} of {filesystem}"), errno);
            }
        }
        let mount = fsconfig_create(&context).and_then(|()| {
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        });
        let mount = match mount {
            Ok(mount) => mount,
            Err(errno) => return refused(format!("mount {}", self.source), errno),
        };
        let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mount, "", CWD, at, onto)
            .map_err(|errno| failed(&format!("mount on {}", at.display()), to_nix(errno)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_whole_names() {
        let known = "nodev\tsysfs\nnodev\tnfs4\n\text4\n";
        assert!(is_in("ext4", known) && is_in("nfs4", known));
        assert!(!is_in("nfs", known) && !is_in("cifs", known));
    }

    #[test]
    fn a_filesystem_that_no_kernel_has_is_not_there() {
        // EPERM where the test may not mount at all.
        assert_ne!(has("no-such-filesystem"), Ok(true));
    }

    #[test]
    fn a_mount_that_cannot_be_is_refused_with_its_filesystem() {
        let mount = KernelMount {
            filesystem: "no-such-filesystem".into(),
            source: "//127.0.0.1/data".into(),
            options: vec![("vers".into(), Some("3.1.1".into())), ("soft".into(), None)],
            secret: None,
        };
        let error = mount.mount(Path::new("/")).expect_err("no such filesystem");
        assert!(error.contains("no-such-filesystem"), "{error}");
    }
}
