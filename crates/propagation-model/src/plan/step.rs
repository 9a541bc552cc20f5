//! Steps of a scenario: actions in order, each with what must then be seen.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::expect::Expected;
use super::fault::Fault;
use super::fuse::Stale;
use super::repair::Repair;

/// One of the five phases, as a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    /// Can this host share FUSE mounts at all?
    HostSetup,
    /// Do the producer's plain file and its FUSE mount reach the host?
    Producer,
    /// Do consumers see the mount?
    Consumer,
    /// The plan's fault: which actors notice, hang, or die?
    StaleMount,
    /// The producer serves again: which consumers come back?
    Recovery,
}

impl PhaseName {
    /// All five, in order.
    pub const ALL: [Self; 5] =
        [Self::HostSetup, Self::Producer, Self::Consumer, Self::StaleMount, Self::Recovery];

    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HostSetup => "host_setup",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::StaleMount => "stale_mount",
            Self::Recovery => "recovery",
        }
    }
}

/// The workloads that a step is about: one name or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Names {
    /// One workload; `all` stands for every one that fits.
    One(String),
    /// Several, in order.
    Several(Vec<String>),
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsWritten;

        impl<'de> Visitor<'de> for AsWritten {
            type Value = Names;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of a workload, a list of names, or all")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Names, E> {
                Ok(Names::One(name.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Names, A::Error> {
                let mut several = Vec::new();
                while let Some(name) = names.next_element()? {
                    several.push(name);
                }
                Ok(Names::Several(several))
            }
        }

        deserializer.deserialize_any(AsWritten)
    }
}

impl Names {
    /// The word that stands for all workloads.
    pub const ALL: &'static str = "all";

    /// The names as they are written.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }

    /// Whether a workload is among them.
    pub fn mean(&self, name: &str) -> bool {
        self.is_all() || self.as_slice().iter().any(|one| one == name)
    }

    /// Whether it is the word for all.
    pub fn is_all(&self) -> bool {
        matches!(self.as_slice(), [name] if name == Self::ALL)
    }
}

/// Action of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// One of the five phases, with its own checks.
    Phase(PhaseName),
    /// Starts workloads in this order. `all` starts every one that does not run: those with order
    /// `before_mount`, then producers, then, once they serve, the others.
    Start(Names),
    /// Ends workloads at once, as the forced deletion of their pods does: with SIGKILL, and without
    /// time to unmount. The fault `delete` is the gentle one.
    Stop(Names),
    /// Restarts the containers of workloads in place.
    Restart(Names),
    /// Deletes the pods of workloads and makes them again.
    Recreate(Names),
    /// Binds the mount on the path that is the volume of each of these workloads, as a CSI driver
    /// publishes a volume.
    Publish(Names),
    /// Unmounts those paths and removes them.
    Unpublish(Names),
    /// Closes the descriptors that workloads hold, so that the next look opens the marker anew: `held` is of that
    /// generation from then on.
    Reopen(Names),
    /// Injects a fault into a workload.
    Fault(Fault),
    /// Carries out a repair.
    Repair(Repair),
    /// Runs a program in the mount namespace of an actor, to its end.
    Execute {
        /// The program and its arguments. `{mountpoint}`, `{bridge}` and `{marker}` stand for the
        /// paths of the mount, of the bridge and of the marker file as that actor has them.
        command: Vec<String>,
        /// The actor: a workload, `node` or `runtime`.
        inside: String,
    },
    /// Looks, without another action.
    Observe,
    /// Waits until the expectations are met, for at most this long (milliseconds).
    Wait(u64),
    /// Lets this time pass (milliseconds), where time itself is tested.
    Pause(u64),
    /// Repeats steps.
    Repeat {
        /// Number of repetitions.
        times: u32,
        /// The repeated steps.
        steps: Vec<Step>,
    },
}

/// One step of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "StepFile", into = "StepFile")]
pub struct Step {
    /// Its name in the report; by default its number and its action.
    pub name: Option<String>,
    /// Its action.
    pub action: Action,
    /// The workloads that a fault or a repair is for.
    pub on: Option<Names>,
    /// What a producer that the step starts does with dead mounts; overrides its `fuse`.
    pub stale: Option<Stale>,
    /// Expectations afterwards, by actor.
    pub expect: BTreeMap<String, Expected>,
}

impl From<Action> for Step {
    fn from(action: Action) -> Self {
        Self { name: None, action, on: None, stale: None, expect: BTreeMap::new() }
    }
}

/// A step as written: exactly one of the keys for actions.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct StepFile {
    /// Its name in the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Runs one of the five phases.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<PhaseName>,
    /// Starts workloads: names, or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Names>,
    /// Ends workloads at once, without time to unmount; the fault `delete` is the gentle one.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<Names>,
    /// Restarts containers of workloads in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    restart: Option<Names>,
    /// Deletes pods and makes them again.
    #[serde(skip_serializing_if = "Option::is_none")]
    recreate: Option<Names>,
    /// Binds the mount on the paths that are the volumes of these workloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    publish: Option<Names>,
    /// Unmounts those paths and removes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    unpublish: Option<Names>,
    /// Closes the descriptors that these workloads hold; the next look opens new ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    reopen: Option<Names>,
    /// Injects a fault, by default into the first producer.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<Fault>,
    /// Carries out a repair, by default for the first producer and all consumers.
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<Repair>,
    /// Runs a program, to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<Vec<String>>,
    /// The mount namespace that `run` runs in: a workload, `node` (the default) or `runtime`.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    inside: Option<String>,
    /// Looks, without another action; the value is `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    observe: Option<bool>,
    /// Waits until the expectations are met, for at most this many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_ms: Option<u64>,
    /// Lets this many milliseconds pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_ms: Option<u64>,
    /// Repeats the steps under `steps` this many times.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat: Option<u32>,
    /// The steps that `repeat` repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<Step>>,
    /// The workloads of a fault or a repair: one or several.
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<Names>,
    /// What a producer that the step starts does with dead mounts; overrides its `fuse`.
    #[serde(skip_serializing_if = "Option::is_none")]
    stale: Option<Stale>,
    /// Expectations afterwards, by actor: `early: ok`, `early.list: ENOTCONN`, …
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    expect: BTreeMap<String, Expected>,
}

impl TryFrom<StepFile> for Step {
    type Error = String;

    fn try_from(file: StepFile) -> Result<Self, String> {
        let mut actions: Vec<(&str, Action)> = Vec::new();
        actions.extend(file.phase.map(|phase| ("phase", Action::Phase(phase))));
        actions.extend(file.start.map(|names| ("start", Action::Start(names))));
        actions.extend(file.stop.map(|names| ("stop", Action::Stop(names))));
        actions.extend(file.restart.map(|names| ("restart", Action::Restart(names))));
        actions.extend(file.recreate.map(|names| ("recreate", Action::Recreate(names))));
        actions.extend(file.publish.map(|names| ("publish", Action::Publish(names))));
        actions.extend(file.unpublish.map(|names| ("unpublish", Action::Unpublish(names))));
        actions.extend(file.reopen.map(|names| ("reopen", Action::Reopen(names))));
        actions.extend(file.fault.map(|fault| ("fault", Action::Fault(fault))));
        actions.extend(file.repair.map(|repair| ("repair", Action::Repair(repair))));
        let inside = file.inside.clone();
        actions.extend(file.run.map(|command| {
            let inside = inside.unwrap_or_else(|| "node".into());
            ("run", Action::Execute { command, inside })
        }));
        actions.extend(file.observe.map(|_| ("observe", Action::Observe)));
        actions.extend(file.wait_ms.map(|ms| ("wait_ms", Action::Wait(ms))));
        actions.extend(file.pause_ms.map(|ms| ("pause_ms", Action::Pause(ms))));
        let steps = file.steps.clone();
        actions.extend(
            file.repeat.map(|times| {
                ("repeat", Action::Repeat { times, steps: steps.unwrap_or_default() })
            }),
        );
        let verbs: Vec<&str> = actions.iter().map(|(verb, _)| *verb).collect();
        const ALL: &str = "phase, start, stop, restart, recreate, publish, unpublish, reopen, fault, repair, run, observe, \
                           wait_ms, pause_ms or repeat";
        if verbs.len() > 1 {
            return Err(format!("a step does one thing, this one has {}", verbs.join(" and ")));
        }
        let Some((verb, action)) = actions.pop() else {
            return Err(format!("a step needs one of {ALL}"));
        };
        let only = |present: bool, key: &str, of: &[&str]| match present && !of.contains(&verb) {
            true => Err(format!("`{key}` applies to {}, not to {verb}", of.join(" or "))),
            false => Ok(()),
        };
        only(file.inside.is_some(), "in", &["run"])?;
        only(file.steps.is_some(), "steps", &["repeat"])?;
        only(file.on.is_some(), "on", &["fault", "repair"])?;
        only(file.stale.is_some(), "stale", &["start", "restart", "recreate", "repair"])?;
        if verb == "repeat" && file.steps.as_ref().is_none_or(Vec::is_empty) {
            return Err("`repeat` needs `steps`".into());
        }
        Ok(Self { name: file.name, action, on: file.on, stale: file.stale, expect: file.expect })
    }
}

impl From<Step> for StepFile {
    fn from(step: Step) -> Self {
        let Step { name, action, on, stale, expect } = step;
        let mut file = Self { name, on, stale, expect, ..Self::default() };
        match action {
            Action::Phase(phase) => file.phase = Some(phase),
            Action::Start(names) => file.start = Some(names),
            Action::Stop(names) => file.stop = Some(names),
            Action::Restart(names) => file.restart = Some(names),
            Action::Recreate(names) => file.recreate = Some(names),
            Action::Publish(names) => file.publish = Some(names),
            Action::Unpublish(names) => file.unpublish = Some(names),
            Action::Reopen(names) => file.reopen = Some(names),
            Action::Fault(fault) => file.fault = Some(fault),
            Action::Repair(repair) => file.repair = Some(repair),
            Action::Execute { command, inside } => {
                (file.run, file.inside) = (Some(command), Some(inside));
            }
            Action::Observe => file.observe = Some(true),
            Action::Wait(ms) => file.wait_ms = Some(ms),
            Action::Pause(ms) => file.pause_ms = Some(ms),
            Action::Repeat { times, steps } => {
                (file.repeat, file.steps) = (Some(times), Some(steps));
            }
        }
        file
    }
}
