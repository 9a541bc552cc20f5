//! Generations: the markers that producers serve, by mountpoint.

use std::collections::BTreeMap;

use super::RunContext;
use crate::error::{Error, ErrorKind};
use crate::marker::Marker;
use crate::mountinfo::DeviceId;
use crate::observation::Actor;
use crate::plan::{MarkerPlace, Plan, Role, Volume, WorkloadSpec};
use crate::program::ProgramState;
use crate::run_id::random_hex;

/// The generations that have begun.
#[derive(Debug, Default)]
pub(super) struct Generations {
    /// By the mountpoint on the node.
    at: BTreeMap<String, AtMountpoint>,
    /// The mountpoint whose generation began last.
    last: String,
}

/// The generations of one mountpoint.
#[derive(Debug, Default)]
struct AtMountpoint {
    /// How many have begun.
    begun: u64,
    /// The last one of each producer, in the order of their mounts: the topmost last.
    served: Vec<Served>,
}

#[derive(Debug)]
struct Served {
    /// The producer that is to serve it, where one is known.
    producer: Option<String>,
    marker: Marker,
    /// Its filesystem, once it has been seen.
    device: Option<DeviceId>,
    /// What that producer served before, and in which filesystem.
    before: Option<(Marker, Option<DeviceId>)>,
    /// Whether a later generation was withdrawn: the producer goes on with this one.
    goes_on: bool,
}

/// The markers that count as fresh now, one for each mountpoint.
#[derive(Debug)]
pub(super) struct Fresh(BTreeMap<String, Marker>);

impl Fresh {
    /// Those that an actor may read: that of its own mountpoint, and, where a marker is written through a mount, also
    /// the others, because that mount may show what another daemon serves. All, where its path belongs to no
    /// generation.
    pub(super) fn for_actor(&self, plan: &Plan, actor: &Actor) -> Vec<Marker> {
        let spec = match actor {
            Actor::Workload { name, .. } | Actor::HeldDescriptor { name } => {
                plan.workload_or_like(name)
            }
            Actor::Node | Actor::Runtime => None,
        };
        let own = match spec {
            // A bind of a mountpoint at a path of its own, which no plan tells.
            Some(spec) if matches!(spec.volume, Volume::Path(_)) => {
                plan.mountpoint_over(&spec.path_on_node(&plan.bridge)).unwrap_or_default()
            }
            Some(spec) => plan.mountpoint_of(spec),
            None => plan.bridge.fuse_path(),
        };
        if !self.0.contains_key(&own) {
            return self.0.values().cloned().collect();
        }
        let through_a_mount = |path: &str| {
            plan.with_role(Role::Producer).any(|spec| {
                spec.path_on_node(&plan.bridge) == path
                    && plan.fuse_of(spec).marker == MarkerPlace::Mount
            })
        };
        let shows_others = through_a_mount(&own);
        let counts = |path: &String| *path == own || shows_others || through_a_mount(path.as_str());
        self.0.iter().filter(|(path, _)| counts(path)).map(|(_, marker)| marker.clone()).collect()
    }
}

impl RunContext<'_> {
    /// Begins a new generation of the plan's first producer: a fresh nonce for its next start.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn next_generation(&mut self) -> Result<Marker, Error> {
        let plan = self.plan;
        match plan.producer() {
            Some(producer) => self.next_generation_of(producer),
            None => self.begin_generation(plan.bridge.fuse_path(), None, false),
        }
    }

    /// Begins a new generation of a producer. The markers of other mountpoints stay fresh, and so does the one that
    /// another producer serves at this mountpoint, until this one has mounted.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn next_generation_of(&mut self, producer: &WorkloadSpec) -> Result<Marker, Error> {
        let mountpoint = producer.path_on_node(&self.plan.bridge);
        self.begin_generation(mountpoint, Some(producer.name.clone()), false)
    }

    /// The same for a producer whose mount goes on, and stays below what others have mounted on top of it.
    pub(crate) fn next_generation_in_place(
        &mut self,
        producer: &WorkloadSpec,
    ) -> Result<Marker, Error> {
        let mountpoint = producer.path_on_node(&self.plan.bridge);
        self.begin_generation(mountpoint, Some(producer.name.clone()), true)
    }

    fn begin_generation(
        &mut self,
        mountpoint: String,
        producer: Option<String>,
        in_place: bool,
    ) -> Result<Marker, Error> {
        let at = self.generations.at.entry(mountpoint.clone()).or_default();
        let marker = Marker {
            started: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            generation: at.begun + 1,
            nonce: random_hex(16)?,
        };
        at.begun += 1;
        let index = at.served.iter().position(|served| served.producer == producer);
        let before = index.map(|index| at.served.remove(index));
        let before = before.map(|served| (served.marker, served.device));
        let index = index.filter(|_| in_place).unwrap_or(at.served.len());
        let device = before.as_ref().and_then(|(_, device)| *device).filter(|_| in_place);
        let marker_of = marker.clone();
        at.served
            .insert(index, Served { producer, marker: marker_of, device, before, goes_on: false });
        self.generations.last = mountpoint;
        Ok(marker)
    }

    /// Takes a generation back that nobody serves: its producer goes on with what it had.
    pub(crate) fn withdraw(&mut self, marker: &Marker) {
        let all = self.generations.at.values_mut().flat_map(|at| at.served.iter_mut());
        for served in all.filter(|served| served.marker == *marker) {
            if let Some((marker, device)) = served.before.take() {
                served.marker = marker;
                served.device = device;
                served.goes_on = true;
            }
        }
    }

    /// The marker of the generation that began last.
    ///
    /// # Errors
    /// When no generation has begun: a phase looked before any producer was started.
    pub fn marker(&self) -> Result<&Marker, Error> {
        let last = self.generations.at.get(&self.generations.last);
        last.and_then(|at| at.served.last()).map(|served| &served.marker).ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "look for the marker",
                "no producer has been started in this run",
            )
        })
    }

    /// The marker of the generation that a workload serves or has for its volume; otherwise that of the latest
    /// generation.
    ///
    /// # Errors
    /// As [`RunContext::marker`].
    pub fn marker_for(&self, spec: &WorkloadSpec) -> Result<&Marker, Error> {
        let Some(at) = self.generations.at.get(&spec.path_on_node(&self.plan.bridge)) else {
            return self.marker();
        };
        let own = at.served.iter().find(|served| served.producer.as_ref() == Some(&spec.name));
        own.or(at.served.last()).map_or_else(|| self.marker(), |served| Ok(&served.marker))
    }

    /// The markers that count as fresh now: at each mountpoint the newest one that a living daemon serves there, or
    /// the newest at all where none does. What was unmounted, and lives on because somebody holds it, is not there.
    ///
    /// # Errors
    /// As [`RunContext::marker`].
    pub(super) async fn fresh_markers(&mut self) -> Result<Fresh, Error> {
        self.marker()?;
        let mut fresh = BTreeMap::new();
        let mountpoints: Vec<String> = self.generations.at.keys().cloned().collect();
        for mountpoint in mountpoints {
            let begun = self.generations.at[&mountpoint].served.len();
            let mut newest = None;
            // All are looked at, so that each filesystem is known before another one lies there.
            let looked_at = if self.is_shared(&mountpoint) { begun } else { 0 };
            for index in (0..looked_at).rev() {
                let is_served = self.is_served(&mountpoint, index).await?;
                newest = newest.or(is_served.then_some(index));
            }
            let newest = newest.or(begun.checked_sub(1));
            if let Some(index) = newest {
                let served = &self.generations.at[&mountpoint].served[index];
                fresh.insert(mountpoint, served.marker.clone());
            }
        }
        Ok(Fresh(fresh))
    }

    /// Whether several producers of the plan mount at a mountpoint.
    fn is_shared(&self, mountpoint: &str) -> bool {
        let producers = self.plan.with_role(Role::Producer);
        producers.filter(|spec| spec.path_on_node(&self.plan.bridge) == mountpoint).nth(1).is_some()
    }

    /// Whether the daemon that is to serve a generation lives and has mounted, and its mount is there.
    async fn is_served(&mut self, mountpoint: &str, index: usize) -> Result<bool, Error> {
        let served = &self.generations.at[mountpoint].served[index];
        let name = served.producer.as_ref().filter(|name| self.runs(name));
        let Some(workload) = name.and_then(|name| self.workload(name)) else { return Ok(false) };
        let status = workload.status().await?;
        let has_mounted = status.mounted_at_us.is_some() || served.goes_on;
        if status.program != ProgramState::Running || !has_mounted {
            return Ok(false);
        }
        let producer = Actor::workload(workload.spec().name.clone());
        self.has_its_mount(mountpoint, index, producer).await
    }

    /// Whether the node or the producer has the mount of a generation. Its filesystem is the topmost one at the producer's
    /// path that is of no other generation when somebody looks for the first time; one that is not known counts as
    /// mounted.
    async fn has_its_mount(
        &mut self,
        mountpoint: &str,
        index: usize,
        producer: Actor,
    ) -> Result<bool, Error> {
        let on_node = match self.plan.bridge.fuse_path() == mountpoint {
            true => self.fuse_path_of(&Actor::Node),
            false => mountpoint.into(),
        };
        let places = [(self.fuse_path_of(&producer), producer), (on_node, Actor::Node)];
        let actors: Vec<Actor> = places.iter().map(|(_, actor)| actor.clone()).collect();
        let tables = self.node.mount_tables(&actors).await?;
        let filesystems = |place: usize| -> Vec<DeviceId> {
            let Some(Some(table)) = tables.get(place) else { return Vec::new() };
            let stack = table.stack_at(&places[place].0);
            stack.iter().filter(|mount| mount.is_served()).map(|mount| mount.device).collect()
        };
        let Some(at) = self.generations.at.get_mut(mountpoint) else { return Ok(false) };
        let all = &mut at.served;
        let known = all[index].device.or_else(|| {
            let of_others = |device: &DeviceId| all.iter().any(|one| one.device == Some(*device));
            filesystems(0).into_iter().rev().find(|device| !of_others(device))
        });
        all[index].device = known;
        Ok(known.is_none_or(|device| (0..2).any(|place| filesystems(place).contains(&device))))
    }
}
