//! Deliberate defects: wrappers that each violate one sentence of the contracts of
//! [`Node`](crate::Node) and [`Workload`](crate::Workload).
//!
//! A suite that passes on a backend is worth something only if it fails on these.

mod node;
mod spoil;
mod workload;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorKind};
use crate::marker::Marker;
use crate::node::Node;
use crate::observation::Access;
use crate::plan::{FaultKind, Repair};
use crate::workload::Workload;

macro_rules! sabotages {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// One violation of the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Sabotage {
            $($(#[$doc])* $name,)+
            /// One fault is said to be done and is not.
            Fault(FaultKind),
            /// One repair is said to be done and is not.
            Repair(Repair),
            /// Looking by one access succeeds, whatever is there.
            Access(Access),
        }

        impl Sabotage {
            /// Those that are about one sentence of the contract.
            pub const WRITTEN: &[Self] = &[$(Self::$name,)+];

            /// Its name.
            pub fn name(self) -> String {
                match self {
                    $(Self::$name => stringify!($name).to_owned(),)+
                    Self::Fault(fault) => format!("Fault({})", fault.name()),
                    Self::Repair(repair) => format!("Repair({})", repair.name()),
                    Self::Access(access) => format!("Access({})", access.as_str()),
                }
            }
        }
    };
}

sabotages! {
    /// The node's capabilities change while it lives.
    CapabilitiesChange,
    /// Reading the facts twice gives two answers.
    FactsChange,
    /// A change that is there already is said to have been made now.
    ApplyNotIdempotent,
    /// Taking a change back twice fails.
    UndoNotIdempotent,
    /// Taking back a change that was there before the run removes it.
    UndoRemovesWhatWasThere,
    /// Taking back a directory on which a producer serves a mount succeeds.
    UndoIgnoresUse,
    /// After the first refusal nothing more is started.
    StartStopsAtFirstRefusal,
    /// The results of starting are in another order than the specs.
    StartMixesUpResults,
    /// A name that is in use is given again.
    AcceptsNameInUse,
    /// Looking from an unknown actor gives an observation.
    AcceptsUnknownActors,
    /// A probe looks only as its first user.
    DropsSecondUid,
    /// Observations come in another order than the actors.
    WrongOrderOfObservations,
    /// The marker of an old generation counts as fresh.
    LiesAboutFresh,
    /// Any nonce counts as long as the generation is right.
    IgnoresNonce,
    /// A control sees the mount.
    ControlSeesMount,
    /// Mounts do not reach consumers with `HostToContainer`.
    SlavesMissMounts,
    /// A dead mount reads like a living one.
    NeverBreaks,
    /// A dead mount looks like none.
    HidesDeadMounts,
    /// A clean unmount looks like a dead mount.
    AbsentLooksDead,
    /// The kernel's permission check for a mount is left out.
    LetsEverybodyIn,
    /// A look that hangs blocks the whole call.
    BlocksOnHang,
    /// Observations have the times of another clock.
    TimesFromAnotherClock,
    /// Every observation shows the node's own mount.
    ShowsTheNodesMount,
    /// Every mount table is the node's own.
    ShowsTheNodesTable,
    /// All replicas are one view.
    ReplicasShareOneView,
    /// What programs report by themselves is lost.
    LosesReports,
    /// What programs report by themselves is handed over again and again.
    RepeatsReports,
    /// Re-binding succeeds and does nothing.
    RebindDoesNothing,
    /// Closing leaves the workloads running.
    CloseLeavesWorkloads,
    /// Closing a second time complains.
    CloseNotIdempotent,
    /// A dropped future makes the node unusable.
    BreaksWhenDropped,
    /// A wait does not end at its deadline.
    WaitIgnoresDeadline,
    /// A wait goes on although the program has ended.
    WaitMissesTheEnd,
    /// A wait gives up at once when its condition is not met.
    WaitGivesUpAtOnce,
    /// A fault on a workload that has ended succeeds.
    InjectsIntoTheDead,
    /// A fault is said to be done and is not.
    InjectDoesNothing,
    /// A restarted producer serves the marker of the generation before.
    RestartKeepsOldMarker,
    /// A restarted workload is the same container.
    RestartDoesNothing,
    /// Stopping twice fails.
    StopNotIdempotent,
    /// Stopping leaves the program running.
    StopDoesNothing,
    /// Logs are empty.
    LogsNothing,
    /// A held descriptor is said to have recovered.
    HeldDescriptorRecovers,
}

impl std::fmt::Display for Sabotage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(&self.name())
    }
}

/// Breaks a node.
pub(super) fn wrap(sabotage: Sabotage, node: Box<dyn Node>) -> Box<dyn Node> {
    Box::new(node::SabotagedNode::new(sabotage, node))
}

/// What a broken node and its workloads remember.
#[derive(Debug)]
struct Saboteur {
    sabotage: Sabotage,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    calls: u64,
    closed: bool,
    broken: bool,
    /// Started workloads, for sabotages that mix them up.
    workloads: Vec<Arc<dyn Workload>>,
    reports: Vec<crate::observation::Observation>,
    first_marker: Option<Marker>,
    undone: Vec<crate::journal::HostChange>,
    found_there: Vec<crate::journal::HostChange>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Memory").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Saboteur {
    fn does(&self, sabotage: Sabotage) -> bool {
        self.sabotage == sabotage
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A panic under the lock fails the test that caused it; the others have their own node.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call; what comes back has to be kept until the call is over.
    fn begin(self: &Arc<Self>) -> Result<InCall, Error> {
        let mut memory = self.memory();
        memory.calls += 1;
        if memory.broken {
            let reason = "a future was dropped half way";
            return Err(Error::new(ErrorKind::Disconnected, "use a sabotaged node", reason));
        }
        memory.broken = self.does(Sabotage::BreaksWhenDropped);
        Ok(InCall(Arc::clone(self)))
    }
}

/// A call in progress. Dropped half way, it leaves the node broken if that is the sabotage.
struct InCall(Arc<Saboteur>);

impl InCall {
    fn over(self) {
        self.0.memory().broken = false;
    }
}
