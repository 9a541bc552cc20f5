//! One case: two containers on one node, compared as they start, as mounts come and go, and after
//! the submount has been taken away.

use std::fs;
use std::path::PathBuf;

use libtest_mimic::Failed;
use propagation_core::mountinfo::{MountPath, MountTable};
use propagation_core::plan::{Covering, Propagation};

use super::case::Case;
use super::expected::{self, COVERING, MASTER, Party, travels};
use super::graph::{Graph, Mount, graph, lines};
use super::inside::{Step, act};
use super::roots::{Maker, Version, rule};
use super::runtime::{Container, Runtime};
use super::world::World;

/// Where a simulated node has the root filesystem of its containers.
const IMAGE: &str = "/run/propagation/image";

/// What came of a case that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Both containers run, and are the same.
    Same,
    /// The simulator refused in containerd's words; the runtime's container is as the kernel's rules
    /// say.
    Refused,
}

/// Compares a simulated container with the runtime's.
///
/// # Errors
/// With every difference that is not in the tables.
pub(super) async fn compare(case: Case, runtime: &Runtime) -> Result<Found, Failed> {
    let world = World::open(case).await?;
    let found = compare_on(&world, case, runtime).await;
    world.close().await?;
    found
}

async fn compare_on(world: &World, case: Case, runtime: &Runtime) -> Result<Found, Failed> {
    if case.is_late() {
        world.make_submounts(case).await?;
    }
    let mut container = runtime.prepare(world, case).await?;
    let mounts_before = world.mount_table().await?;
    let found = start_simulated(world, case).await?;
    unchanged(world, &mounts_before, "the start of the simulated container").await?;
    container.start()?;
    unchanged(world, &mounts_before, "the start of the runtime's container").await?;
    if !case.is_late() {
        world.make_submounts(case).await?;
    }
    let simulated = found == Found::Same;
    let mut sides = Sides { world, case, runtime, container, simulated, problems: Vec::new() };
    sides.compare_graphs("running", &expected::mounts(case)).await?;
    sides.compare_travel().await?;
    let at = case.submounts().swap_remove(0);
    world.act(Step::Unmount { at })?;
    sides.compare_graphs("unmounted", &expected::mounts_after_unmount(case)).await?;
    let Sides { container, problems, .. } = sides;
    let mounts_before = world.mount_table().await?;
    container.delete()?;
    unchanged(world, &mounts_before, "the end of the runtime's container").await?;
    if problems.is_empty() { Ok(found) } else { Err(problems.join("\n").into()) }
}

/// Starts the simulated container, or has it refused as containerd would.
async fn start_simulated(world: &World, case: Case) -> Result<Found, Failed> {
    match (world.start_subject(case).await?, expected::refusal(case)) {
        (Ok(()), None) => Ok(Found::Same),
        (Err(refused), Some(words)) if refused.text.contains(words) => Ok(Found::Refused),
        (Ok(()), Some(words)) => {
            Err(format!("the simulator started what containerd refuses: {words}").into())
        }
        (Err(refused), _) => Err(format!("the simulator refused with {:?}", refused.text).into()),
    }
}

/// A container's own binds must not leak to the node, nor its end take the node's mounts away.
async fn unchanged(world: &World, before: &MountTable, by: &str) -> Result<(), Failed> {
    let now = world.mount_table().await?;
    if now == *before {
        return Ok(());
    }
    Err(format!("{by} changed the node's mounts:\n{before}became\n{now}").into())
}

/// Shows that a difference is found: a simulated container with one mode beside the runtime's with
/// another must not pass for the same.
///
/// # Errors
/// When it does.
pub(super) async fn tell_apart(
    simulated: Propagation,
    real: Propagation,
    runtime: &Runtime,
) -> Result<(), Failed> {
    let case = Case::plain(simulated);
    let world = World::open(case).await?;
    let told = async {
        world.make_submounts(case).await?;
        world.start_subject(case).await?.map_err(|refused| refused.text)?;
        let mut container = runtime.prepare(&world, Case::plain(real)).await?;
        container.start()?;
        let node = world.mount_table().await?;
        let of = |table: &MountTable, rootfs: &str| {
            graph(&node, table, rootfs, &case.paths().destination)
        };
        let theirs = of(&container.mount_table()?, &container.rootfs)?;
        for table in world.mount_tables_of_subject().await? {
            if of(&table, IMAGE)?.volume == theirs.volume {
                let seen = lines(&theirs.volume);
                return Err(format!("{simulated} and {real} pass for the same:{seen}").into());
            }
        }
        container.delete()
    };
    let told = told.await;
    world.close().await?;
    told
}

/// The two containers of a case.
struct Sides<'a> {
    world: &'a World,
    case: Case,
    runtime: &'a Runtime,
    container: Container<'a>,
    /// Whether there is a simulated one.
    simulated: bool,
    problems: Vec<String>,
}

/// All mount tables at one time.
struct Tables {
    node: MountTable,
    /// One for each replica.
    simulated: Vec<MountTable>,
    real: MountTable,
}

/// Whose mount table is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Node,
    Simulated(usize),
    Real,
}

/// A place where a mount is made, or seen.
struct Place {
    view: View,
    party: Party,
    /// Where to go to make it; a replica that is a copy has no process.
    process: Option<PathBuf>,
    spot: String,
}

impl Tables {
    fn of(&self, view: View) -> &MountTable {
        match view {
            View::Node => &self.node,
            View::Simulated(replica) => &self.simulated[replica],
            View::Real => &self.real,
        }
    }
}

impl Sides<'_> {
    async fn tables(&self) -> Result<Tables, Failed> {
        let simulated = match self.simulated {
            true => self.world.mount_tables_of_subject().await?,
            false => Vec::new(),
        };
        let real = self.container.mount_table()?;
        Ok(Tables { node: self.world.mount_table().await?, simulated, real })
    }

    /// The graphs against the kernel's rules, against the rules for `/`, and against each other.
    async fn compare_graphs(&mut self, when: &str, expected: &[Mount]) -> Result<(), Failed> {
        let tables = self.tables().await?;
        let destination = self.case.paths().destination;
        let of =
            |table: &MountTable, rootfs: &str| graph(&tables.node, table, rootfs, &destination);
        let real = of(&tables.real, &self.container.rootfs)?;
        let Runtime { maker, version, .. } = *self.runtime;
        self.check(when, maker, version, &real, expected);
        for table in &tables.simulated {
            let simulated = of(table, IMAGE)?;
            self.check(when, Maker::Simulator, version, &simulated, expected);
            if simulated.volume != real.volume {
                let (ours, theirs) = (lines(&simulated.volume), lines(&real.volume));
                self.problems.push(format!(
                    "{when}: the volumes differ:\n  simulator:{ours}\n  {maker}:{theirs}"
                ));
            }
        }
        Ok(())
    }

    fn check(
        &mut self,
        when: &str,
        maker: Maker,
        version: Version,
        seen: &Graph,
        expected: &[Mount],
    ) {
        if seen.volume != expected {
            let (seen, expected) = (lines(&seen.volume), lines(expected));
            self.problems.push(format!(
                "{when}: the volume of {maker}:\n  expected:{expected}\n  seen:{seen}"
            ));
        }
        let Some(rule) = rule(maker, version) else {
            return self.problems.push(format!("no rule for / of {maker} {version:?}"));
        };
        let (group, master) = rule.root(self.case.mode).groups();
        let root = Mount { group, master, ..seen.root.clone() };
        if root != seen.root {
            self.problems.push(format!(
                "{when}: / of {maker} {version:?}:\n  expected: {root}\n    ({})\n  seen:     {}",
                rule.reason, seen.root
            ));
        }
    }

    /// A mount is made at each place and taken away again; it is looked at from all.
    async fn compare_travel(&mut self) -> Result<(), Failed> {
        let places = self.places()?;
        for (number, from) in places.iter().enumerate() {
            let Some(process) = &from.process else { continue };
            let (source, at) = (format!("made-{number}"), from.spot.clone());
            act(process, Step::Mount { source: source.clone(), at: at.clone() })?;
            self.look(&places, number, &source, true).await?;
            act(process, Step::Unmount { at })?;
            self.look(&places, number, &source, false).await?;
        }
        Ok(())
    }

    fn places(&self) -> Result<Vec<Place>, Failed> {
        let Self { world, case, .. } = self;
        let on_node = case.spot();
        fs::create_dir_all(world.path(&on_node))?;
        let inside = case.in_container(&on_node);
        let node = Some(world.process().to_owned());
        let place = |view, party, process, spot| Place { view, party, process, spot };
        let container = |view, process| place(view, Party::Container, process, inside.clone());
        let mut places = Vec::new();
        // On a mountpoint the node's own mount hides what its master receives.
        if case.covering == Covering::Slave && !case.is_mountpoint() {
            let below = on_node.strip_prefix(COVERING).unwrap_or_default();
            let spot = format!("{MASTER}{below}");
            places.push(place(View::Node, Party::Master, node.clone(), spot));
        }
        places.push(place(View::Node, Party::Node, node, on_node));
        if self.simulated {
            places.push(container(View::Simulated(0), Some(world.process_of_subject()?)));
            places.push(container(View::Simulated(1), None));
        }
        places.push(container(View::Real, Some(self.container.process()?)));
        Ok(places)
    }

    /// Whether all places show the mount that was made at one of them, or taken away.
    async fn look(
        &mut self,
        places: &[Place],
        made_at: usize,
        source: &str,
        made: bool,
    ) -> Result<(), Failed> {
        let tables = self.tables().await?;
        let from = &places[made_at];
        for (number, to) in places.iter().enumerate() {
            let top = tables.of(to.view).at(&MountPath::from(to.spot.as_str()));
            let sees = top.is_some_and(|mount| mount.source == MountPath::from(source));
            let reaches = number == made_at || travels(self.case, from.party, to.party);
            if sees != (made && reaches) {
                let done = if made { "mounted" } else { "unmounted" };
                self.problems.push(format!(
                    "{done} at {} of {:?}: seen from {:?}: {sees}, expected: {}; there at {}: {}",
                    from.spot,
                    from.view,
                    to.view,
                    made && reaches,
                    to.spot,
                    top.map(ToString::to_string).unwrap_or_default()
                ));
            }
        }
        Ok(())
    }
}
