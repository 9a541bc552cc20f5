//! Tests that mount: each runs again in a process with a mount namespace of its own.

use std::process::Command;

/// Tells a test that it runs in its own process.
const INSIDE: &str = "PROPAGATION_TEST_OWN_MOUNTS";

/// Whether the test with this full name is to do its work now: in a private mount namespace, with nothing
/// in /tmp. Otherwise it has been run there, and has passed.
pub(crate) fn inside(name: &str) -> bool {
    use nix::mount::MsFlags;
    use std::path::Path;
    if std::env::var_os(INSIDE).is_some() {
        crate::mounts::propagate_recursive(Path::new("/"), MsFlags::MS_PRIVATE)
            .and_then(|()| crate::mounts::tmpfs(Path::new("/tmp"), "mode=755"))
            .expect("mounts of its own");
        return true;
    }
    let root = nix::unistd::Uid::effective().is_root();
    let map: &[&str] = if root { &[] } else { &["--map-root-user"] };
    let program = std::env::current_exe().expect("its program");
    let mut inside = Command::new("timeout");
    inside.args(["--signal=KILL", "60", "unshare"]).args(map).arg("--mount").arg(program);
    let output =
        inside.args(["--exact", name]).env(INSIDE, "1").output().expect("timeout (coreutils)");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{name}: {text}");
    false
}
