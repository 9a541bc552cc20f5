//! One processor for a small run.
//!
//! A run is a chain: the tool asks, the agent and then a container does, each waits for the other. On several
//! processors every link of it wakes an idle one, which takes 50 µs and more on a virtual machine; on one it does not.

use std::sync::Arc;

use async_trait::async_trait;
use propagation_core::plan::{Action, Step};
use propagation_core::{Backend, Capabilities, Error, Node, Plan, Run};

/// The most containers for which one processor is enough.
const AT_MOST: u32 = 16;

/// Keeps the calling thread, and the processes that it starts, on the processor where it is, until it is dropped.
#[derive(Debug)]
pub(crate) struct OneProcessor(affinity::Mask);

impl OneProcessor {
    /// For a plan that is such a chain, without the programs of others, which may count processors. `None` for
    /// other plans, and where the kernel does not allow it: then it takes longer, and no more.
    pub(crate) fn of(plan: &Plan) -> Option<Self> {
        is_a_chain(plan).then(affinity::pin).flatten().map(Self)
    }

    /// Lets the calling thread, and what it starts from now on, run on every processor again.
    fn release(&self) {
        affinity::set(&self.0);
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(target_os = "linux")]
mod affinity {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

    pub(super) type Mask = CpuSet;

    /// Keeps the calling thread where it is; returns where it could run before.
    pub(super) fn pin() -> Option<Mask> {
        let before = sched_getaffinity(None).ok()?;
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        sched_setaffinity(None, &here).ok()?;
        Some(before)
    }

    pub(super) fn set(mask: &Mask) {
        // Where it fails, what follows takes longer.
        let _ = sched_setaffinity(None, mask);
    }
}

#[cfg(not(target_os = "linux"))]
mod affinity {
    pub(super) type Mask = ();

    pub(super) fn pin() -> Option<Mask> {
        None
    }

    pub(super) fn set(&(): &Mask) {}
}

fn is_a_chain(plan: &Plan) -> bool {
    let of_the_tool = |step: &Step| matches!(step.action, Action::Phase(_));
    let producers = plan.workloads.iter().map(|workload| plan.fuse_of(workload));
    plan.node.runtime.is_builtin()
        && plan.steps.iter().all(of_the_tool)
        && producers.into_iter().all(|fuse| fuse.is_builtin() && fuse.prepare.is_empty())
        && plan.workloads.iter().map(|workload| workload.replicas).sum::<u32>() <= AT_MOST
}

/// A bench whose nodes are opened side by side, on all processors.
pub(crate) struct OnAll {
    bench: Box<dyn Backend>,
    run: Option<Arc<OneProcessor>>,
}

impl OnAll {
    pub(crate) fn new(bench: Box<dyn Backend>, run: Option<Arc<OneProcessor>>) -> Self {
        Self { bench, run }
    }
}

#[async_trait]
impl Backend for OnAll {
    fn name(&self) -> &str {
        self.bench.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.bench.capabilities()
    }

    fn missing(&self, plan: &Plan) -> Option<String> {
        self.bench.missing(plan)
    }

    async fn open(&self, plan: &Plan, run: &Run) -> Result<Box<dyn Node>, Error> {
        if let Some(one) = &self.run {
            one.release();
        }
        self.bench.open(plan, run).await
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use propagation_core::fake::FakeBackend;
    use rustix::thread::sched_getaffinity;

    use super::*;

    fn processors() -> u32 {
        sched_getaffinity(None).expect("one's own").count()
    }

    #[test]
    fn the_thread_is_on_one_processor_for_as_long_as_it_is_kept() {
        let before = processors();
        let one = OneProcessor::of(&Plan::default()).expect("the five phases are a chain");
        assert_eq!(processors(), 1);
        drop(one);
        assert_eq!(processors(), before);
    }

    #[tokio::test]
    async fn experiments_have_all_processors() {
        let before = processors();
        let one = OneProcessor::of(&Plan::default()).map(Arc::new);
        let bench = OnAll::new(Box::new(FakeBackend::default()), one.clone());
        let id = propagation_core::RunId::generate().expect("an id");
        let run = Run::new(id);
        bench.open(&Plan::default(), &run).await.expect("a node");
        assert_eq!(processors(), before);
    }

    #[test]
    fn many_containers_and_programs_of_others_are_free() {
        let mut many = Plan::default();
        many.workloads[1].replicas = 100;
        assert!(OneProcessor::of(&many).is_none());
        let mut rclone = Plan::default();
        rclone.fuse.command = vec!["rclone".to_owned()];
        assert!(OneProcessor::of(&rclone).is_none());
    }
}
