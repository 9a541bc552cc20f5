//! The mounts at the daemon's mountpoint: before it starts, until its mount appears, and whether that mount
//! answers.

use std::fs;
use std::path::Path;

use mountinfo::{MountEntry, MountPath};
use propagation_model::marker::MARKER_FILE;
use propagation_model::observation::Access;
use propagation_model::plan::{MarkerPlace, Stale};
use propagation_protocol::ProgramEvent;

use super::daemon::Daemon;
use super::told::Supervisor;
use crate::child::within;
use crate::failure::errno_text;
use crate::fuse_mount::clear_dead;
use crate::look::{Spot, look};
use crate::mounts::{Proc, errno_of};
use crate::producer::Producer;
use crate::sys::now_ns;

/// The mounts that daemons and servers have at the mountpoint, the topmost last.
pub(super) fn served_mounts(producer: &Producer, proc: &Proc) -> Result<Vec<MountEntry>, String> {
    let table = proc.mount_table().map_err(|f| format!("{}: {}", f.operation, f.reason))?;
    let path = MountPath::from(producer.mountpoint.as_str());
    Ok(table.stack_at(&path).into_iter().filter(|m| m.is_served()).cloned().collect())
}

/// Takes off what earlier daemons have left dead, where that is asked for.
pub(super) fn clear_stale(producer: &Producer, proc: &Proc) -> Result<(), String> {
    if producer.fuse.stale != Stale::Unmount {
        return Ok(());
    }
    clear_dead(&producer.mountpoint, proc, MountEntry::is_fuse).map(drop)
}

/// Whether the daemon's mount has appeared, and answers: what there is to tell of it, once.
pub(super) fn look_for(
    daemon: &mut Daemon,
    told: &Supervisor,
    proc: &Proc,
) -> Result<Option<ProgramEvent>, String> {
    let Some(until) = daemon.mount_until else { return Ok(None) };
    let wanted = told.producer.fuse.fs_type.as_deref();
    let there = served_mounts(&told.producer, proc)?.into_iter().next_back();
    let there = there.filter(|mount| !daemon.before.contains(&mount.mount_id));
    let fits = |mount: &MountEntry| wanted.is_none_or(|fs_type| mount.fs_type == fs_type);
    let event = match there {
        Some(mount) if fits(&mount) => {
            let at_ns = now_ns();
            match first_look(told, proc) {
                Ok(()) => ProgramEvent::Mounted { at_ns },
                Err(text) => ProgramEvent::Failed { text },
            }
        }
        other if now_ns() >= until => {
            let found = other.map_or_else(
                || "no FUSE mount appeared".to_owned(),
                |mount| format!("a mount of type {} appeared", mount.fs_type),
            );
            let words = daemon.last_words.trim();
            let text = format!("{found} in {} ms; {words}", told.mount_ms);
            ProgramEvent::Failed { text }
        }
        _ => return Ok(None),
    };
    daemon.mount_until = None;
    Ok(Some(event))
}

/// Writes the marker through the mount where that is asked for, and reads it once, in a child.
pub(super) fn first_look(told: &Supervisor, proc: &Proc) -> Result<(), String> {
    let producer = &told.producer;
    let through = producer.fuse.marker == MarkerPlace::Mount;
    let path = Path::new(&producer.mountpoint).join(MARKER_FILE);
    let spot = Spot::in_mount(&producer.mountpoint, MARKER_FILE);
    let marker = std::slice::from_ref(&producer.marker);
    let looked = within(told.mount_ms.min(told.probe_ms * 5), || {
        if through && let Err(error) = fs::write(&path, producer.marker.render()) {
            return Err(format!("write {}: {}", path.display(), errno_text(errno_of(&error))));
        }
        Ok(look(proc, spot, Access::Read, None, marker).outcome)
    });
    match looked {
        Ok(Some(Ok(outcome))) if outcome.is_ok() => Ok(()),
        Ok(Some(Ok(outcome))) => Err(format!("the mount is there, and its marker: {outcome}")),
        Ok(Some(Err(text))) => Err(text),
        Ok(None) => Err("the mount is there and does not answer".into()),
        Err(errno) => Err(format!("look at the mount: {}", errno_text(errno))),
    }
}
