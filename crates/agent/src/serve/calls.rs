//! The calls that nodes of every kind answer.

use propagation_model::ErrorKind;
use propagation_model::observation::Access;
use propagation_model::program::{Attach, Attached};
use propagation_protocol::{Call, Failure, Place, Reply};

use super::in_child::in_child;
use super::looks::Looks;
use super::world::{Begun, World};
use crate::bridge::{self, Side};
use crate::facts;
use crate::failure::{failure, system};
use crate::mounts::as_in_table;

/// Begins a call; `idle` when no job is under way.
pub(crate) fn begin<W: World>(
    world: &mut W,
    id: u64,
    call: Call,
    idle: bool,
) -> Result<Begun<W>, Failure> {
    match call {
        Call::Start { containers, deadline_ms } => world.start(containers, deadline_ms),
        Call::Observe { looks, access: Access::Held, expect, deadline_ms } => {
            world.hold(&looks, &expect, deadline_ms)
        }
        Call::Observe { looks, access, expect, deadline_ms } => {
            Looks::begin(world, looks, access, expect, deadline_ms).map(Begun::job)
        }
        Call::Inject { container, fault, deadline_ms } => {
            world.inject(id, container, &fault, deadline_ms)
        }
        Call::Remove { container } => world.remove(id, container),
        Call::Usage => Ok(Begun::Answered(facts::usage(world.proc()))),
        // Reading /proc never touches a FUSE daemon.
        Call::Mounts { places } => {
            let read = |place| Ok(world.mountinfo(place)?.map(text));
            let mountinfo = places.iter().map(read).collect::<Result<_, Failure>>()?;
            Ok(Begun::Answered(Reply::Mounts { mountinfo }))
        }
        // A program may take its time, and enters namespaces that this process has to stay out of.
        Call::Execute { place, command, deadline_ms } => {
            // Its own deadline passes first.
            in_child(world, "run a program", deadline_ms, |world| {
                world.execute(&place, &command, deadline_ms)
            })
        }
        Call::Facts => may_block(world, "read the facts of the node", idle, |world| {
            Ok(Reply::Facts { facts: Box::new(world.facts()) })
        }),
        Call::Apply { change } => may_block(world, "change the node", idle, |world| {
            world.apply(&change).map(|now| Reply::Applied { now })
        }),
        Call::Undo { change } => may_block(world, "undo a change of the node", idle, |world| {
            world.undo(&change).map(|()| Reply::Done)
        }),
        Call::RebindHost { path, deduplicate } => {
            may_block(world, "re-bind on the node", idle, |world| {
                let path = as_in_table(&path);
                world.check_others_at(&path)?;
                bridge::rebind(world.proc(), &path, deduplicate).map(|()| Reply::Done)
            })
        }
        Call::Unmount { path, lazy } => may_block(world, "unmount on the node", idle, |world| {
            let path = as_in_table(&path);
            world.check_others_at(&path)?;
            bridge::unmount(&path, lazy).map(|()| Reply::Done)
        }),
        Call::Attach { container, path, how } => {
            may_block(world, "re-bind in a container", idle, |world| {
                let path = as_in_table(&path);
                attach(world, container, &path, how).map(|attached| Reply::Attached { attached })
            })
        }
    }
}

fn text(table: Vec<u8>) -> String {
    String::from_utf8_lossy(&table).into_owned()
}

/// Does what touches the node's filesystem: in a child that can be given up, unless nothing can hang.
pub(crate) fn may_block<W: World>(
    world: &W,
    operation: &str,
    idle: bool,
    work: impl FnOnce(&W) -> Result<Reply, Failure>,
) -> Result<Begun<W>, Failure> {
    match idle && !world.may_hang() {
        true => work(world).map(Begun::Answered),
        false => in_child(world, operation, 0, work),
    }
}

/// Gives a container the node's mount at a path, in all replicas.
fn attach<W: World>(world: &W, id: u32, path: &str, how: Attach) -> Result<Attached, Failure> {
    let spec = world.spec_of(id).ok_or_else(|| {
        let operation = format!("attach container {id}");
        failure(ErrorKind::InvalidInput, operation, "unknown container", None)
    })?;
    let node = world.view_of(&Place::Node)?;
    let mut attached = Attached::default();
    for replica in 0..spec.replicas {
        let container = world.view_of(&Place::Container(id, replica))?;
        let one = bridge::attach(world.proc(), path, spec, how, |side| {
            let view = if side == Side::Node { node } else { container };
            view.enter_mounts().map_err(|errno| system("enter a mount namespace", errno))
        })?;
        attached.hole = attached.hole.max(one.hole);
    }
    Ok(attached)
}
