//! Mountpoints on which a daemon does not mount: they are not there, or not empty.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::scene::Scene;
use super::text::shell;
use crate::errno::Errno;
use crate::observation::Actor;

/// The directory on which a daemon is to mount is missing where it runs, in the words of libfuse and others.
pub(super) fn missing(name: &str, text: &str) -> Option<Cause> {
    const SAID: [&str; 3] = ["bad mount point", "mountpoint", "mount point"];
    let about_it = |line: &&str| {
        SAID.iter().any(|part| line.contains(part)) && Errno::said_in(line) == Some(Errno::ENOENT)
    };
    let said = text.lines().find(about_it)?;
    let path = said.split([' ', '\'', '`', '"']).find(|word| word.starts_with('/'))?;
    let path = shell(path.trim_end_matches([':', ',']));
    Some(Cause {
        id: CauseId::MountpointMissing,
        from_step: None,
        until_step: None,
        title: format!(
            "{name} does not mount because {path}, on which it is to mount, is not there in its container: a daemon makes no \
             directory"
        ),
        confidence: Confidence::Likely,
        actors: vec![Actor::workload(name)],
        mounts: Vec::new(),
        evidence: vec![format!("the producer: {said}")],
        fix: Fix::command(
            format!("make the directory in the image or in the volume of {name}, or correct the path; then start {name}"),
            format!("mkdir -p {path}"),
        )
        .inside(name),
        verify: format!("kubectl exec {name} -- stat {path}   # a directory"),
        source: "mount(2), ENOENT; mount.fuse3(8)".into(),
    })
}

/// The daemon refuses a mountpoint that is not empty.
pub(super) fn not_empty(scene: &Scene<'_>, name: &str, said: String) -> Cause {
    let at = scene.report.plan.workload(name).map(|spec| scene.on_node(spec));
    let path = shell(&at.as_ref().unwrap_or(&scene.fuse_path).to_string_lossy());
    Cause {
        id: CauseId::LowerFilesystemWritten,
        from_step: None,
        until_step: None,
        title: format!(
            "{name} does not mount because its mountpoint is not empty: somebody wrote into the directory while \
             nothing was mounted on it"
        ),
        confidence: Confidence::Likely,
        actors: vec![Actor::workload(name)],
        mounts: Vec::new(),
        evidence: vec![said],
        fix: Fix::command(
            format!(
                "move away what lies there, start {name}, then start those anew that had the empty directory; \
                 chattr +i on it refuses such writes"
            ),
            format!("mv {path} {path}.before && mkdir {path}   # on the node"),
        ),
        verify: format!("ls -A {path}   # nothing, while it is not mounted"),
        source: "mount.fuse3(8), nonempty; chattr(1), i".into(),
    }
}
