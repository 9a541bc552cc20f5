//! Whose mount a superblock is, and what was done to whoever made it.

use super::Scene;
use crate::mountinfo::{DeviceId, MountEntry};
use crate::observation::Actor;
use crate::plan::{Repair, Role, WorkloadSpec};
use crate::report::{Act, Deed};

impl<'r> Scene<'r> {
    /// The producer that serves, or served, a superblock at a time; where none is known to have had it, the one with the
    /// latest act on it.
    pub(in crate::diagnosis) fn producer_of(
        &self,
        device: Option<DeviceId>,
        at_us: u64,
    ) -> Option<&'r WorkloadSpec> {
        let known = device.and_then(|device| self.maker_of(device, at_us));
        known.or_else(|| self.latest(self.report.plan.with_role(Role::Producer).collect(), at_us))
    }

    /// The producer that had a superblock mounted at its own path; of several the one with the latest act on it.
    pub(in crate::diagnosis) fn maker_of(
        &self,
        device: DeviceId,
        at_us: u64,
    ) -> Option<&'r WorkloadSpec> {
        let had = |spec: &&WorkloadSpec| {
            let actor = Actor::workload(spec.name.clone());
            let path = self.path_of(&actor);
            let mut tables = self.report.captures.iter().filter_map(|one| one.table(&actor));
            tables.any(|table| table.stack_at(&path).iter().any(|mount| mount.device == device))
        };
        let had: Vec<&WorkloadSpec> =
            self.report.plan.with_role(Role::Producer).filter(had).collect();
        self.by_layer(&had, device).or_else(|| self.latest(had, at_us))
    }

    /// Of several producers that mount on one path, and so have all its layers in their tables, the one whose turn it was when
    /// a layer was made: who started first lies at the bottom.
    fn by_layer(&self, of: &[&'r WorkloadSpec], device: DeviceId) -> Option<&'r WorkloadSpec> {
        let (first, others) = of.split_first().filter(|(_, others)| !others.is_empty())?;
        let at = self.on_node(first);
        if others.iter().any(|spec| self.on_node(spec) != at) {
            return None;
        }
        let node =
            self.report.captures.iter().filter_map(|one| Some((one, one.table(&Actor::Node)?)));
        let mut stacks: Vec<_> = node.map(|(one, table)| (one, table.stack_at(&at))).collect();
        let has = |stack: &[&MountEntry]| stack.iter().any(|one| one.device == device);
        stacks.drain(..stacks.iter().position(|(_, stack)| has(stack))?);
        // The kernel gives the number of a superblock that is gone to another one.
        let is_other =
            stacks.iter().skip_while(|(_, stack)| has(stack)).any(|(_, stack)| has(stack));
        let (capture, mut stack) = stacks.into_iter().next().filter(|_| !is_other)?;
        stack.retain(|mount| mount.is_fuse());
        let mut started: Vec<&str> = Vec::new();
        for act in self.report.acts.iter().filter(|act| act.from_us <= capture.at_us) {
            let starts = matches!(act.deed, Deed::Start | Deed::Restart { .. });
            let named = of.iter().filter(|spec| act.on.contains(&spec.name));
            if !starts && named.clone().next().is_some() {
                return None;
            }
            let mut order: Vec<&str> = named.map(|spec| spec.name.as_str()).collect();
            order.sort_by_key(|name| act.on.iter().position(|one| one == name));
            started.extend(order);
        }
        let layer = stack.iter().position(|mount| mount.device == device)?;
        let name = started.get(layer).filter(|_| started.len() == stack.len())?;
        of.iter().find(|spec| spec.name == **name).copied()
    }

    /// Of several producers the one with the latest act on it before a time.
    fn latest(&self, of: Vec<&'r WorkloadSpec>, at_us: u64) -> Option<&'r WorkloadSpec> {
        let touched = |spec: &&WorkloadSpec| self.last_act(spec, at_us).map(|act| act.from_us);
        of.into_iter().rev().max_by_key(touched)
    }

    /// The last act on a workload before a time.
    pub(in crate::diagnosis) fn last_act(
        &self,
        spec: &WorkloadSpec,
        at_us: u64,
    ) -> Option<&'r Act> {
        self.acts_on(spec).filter(|act| act.from_us <= at_us).last()
    }

    /// What was done to a workload, in order.
    pub(in crate::diagnosis) fn acts_on(
        &self,
        spec: &WorkloadSpec,
    ) -> impl Iterator<Item = &'r Act> {
        let first = self.report.plan.producer().map(|producer| producer.name.as_str());
        let is_first = first == Some(&*spec.name);
        let name = spec.name.clone();
        self.report.acts.iter().filter(move |act| {
            let meant = match (&act.deed, act.on.is_empty()) {
                (Deed::Fault { fault }, true) => !fault.is_on_the_node() && is_first,
                (Deed::Repair { repair }, true) => *repair == Repair::HandOver && is_first,
                (Deed::Run { .. }, _) => false,
                _ => act.on.contains(&name),
            };
            meant && act.refused.is_none()
        })
    }

    /// Whether a workload was started again after a time.
    pub(in crate::diagnosis) fn is_succeeded(&self, spec: &WorkloadSpec, at_us: u64) -> bool {
        self.acts_on(spec).any(|act| {
            let starts = matches!(
                act.deed,
                Deed::Start | Deed::Restart { .. } | Deed::Repair { repair: Repair::HandOver }
            );
            starts && act.from_us > at_us
        })
    }
}
