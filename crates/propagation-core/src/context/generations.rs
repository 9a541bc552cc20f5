//! Generations: the markers that producers serve, by mountpoint.

use std::collections::BTreeMap;

use super::RunContext;
use crate::error::{Error, ErrorKind};
use crate::marker::Marker;
use crate::plan::WorkloadSpec;
use crate::run_id::random_hex;

/// The markers that count as fresh now.
#[derive(Debug, Default)]
pub(super) struct Generations {
    /// By the mountpoint on the node.
    markers: BTreeMap<String, Marker>,
    /// The mountpoint whose generation began last.
    last: String,
}

impl RunContext<'_> {
    /// Begins a new generation of the plan's first producer: a fresh nonce for its next start.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn next_generation(&mut self) -> Result<Marker, Error> {
        let bridge = &self.plan.bridge;
        let path = self.plan.producer().map(|producer| producer.path_on_node(bridge));
        self.begin_generation(path.unwrap_or_else(|| bridge.fuse_path()))
    }

    /// Begins a new generation of a producer. The markers of other mountpoints stay fresh.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn next_generation_of(&mut self, producer: &WorkloadSpec) -> Result<Marker, Error> {
        self.begin_generation(producer.path_on_node(&self.plan.bridge))
    }

    fn begin_generation(&mut self, mountpoint: String) -> Result<Marker, Error> {
        let before = self.generations.markers.get(&mountpoint);
        let marker = Marker {
            started: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            generation: before.map_or(1, |marker| marker.generation + 1),
            nonce: random_hex(16)?,
        };
        self.generations.markers.insert(mountpoint.clone(), marker.clone());
        self.generations.last = mountpoint;
        Ok(marker)
    }

    /// The marker of the generation that began last.
    ///
    /// # Errors
    /// When no generation has begun: a phase looked before any producer was started.
    pub fn marker(&self) -> Result<&Marker, Error> {
        self.generations.markers.get(&self.generations.last).ok_or_else(|| {
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
        let own = self.generations.markers.get(&spec.path_on_node(&self.plan.bridge));
        own.map_or_else(|| self.marker(), Ok)
    }

    /// The markers that count as fresh now, one for each mountpoint: a daemon can show what another one serves.
    ///
    /// # Errors
    /// As [`RunContext::marker`].
    pub(super) fn fresh_markers(&self) -> Result<Vec<Marker>, Error> {
        self.marker()?;
        Ok(self.generations.markers.values().cloned().collect())
    }
}
