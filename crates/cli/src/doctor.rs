//! `propagation doctor`: the phase host_setup alone, on this host, with its mount tables and its kernel
//! features.

mod cluster;
mod kernel;
mod security;

use std::io;
use std::time::Duration;

use propagation_core::Error;
use propagation_core::diagnosis::{
    self, Cause, CauseId, Explanation, chain, draw_chain, visibility,
};
use propagation_core::facts::{HostFacts, PathState};
use propagation_core::like::{runtime_namespace, shape};
use propagation_core::mountinfo::{MountEntry, MountGraph, MountPath, MountTable};
use propagation_core::phase::check_host;
use propagation_core::plan::Plan;
use propagation_core::report::{Check, CheckId, Status};
use propagation_report::text::{Colour, lay_out, one_line, sign, write_cause};
use serde::Serialize;

use crate::args::{BackendName, DoctorOptions, Format};
use crate::exit::Exit;
use crate::output;

pub(crate) fn main(options: &DoctorOptions) -> Result<Exit, Error> {
    let mut plan = Plan::default();
    plan.bridge.path.clone_from(&options.bridge);
    if let Some(producer) = plan.workloads.first_mut() {
        producer.uid = options.producer_uid;
    }
    plan.validate()?;
    if options.backend == BackendName::K8s {
        return cluster::main(options, &plan);
    }
    options.cluster.refuse_any()?;
    let (facts, dead) = crate::runtime()?.block_on(async {
        let facts = facts(&options.bridge, options.timeout).await?;
        let dead = dead_mountpoint(&plan, &facts, options.timeout).await;
        Ok::<_, Error>((facts, dead))
    })?;
    let mut examination = Examination::new(facts, &mounts()?, &plan);
    if let Some(Dead { check, cause }) = dead {
        examination.checks.push(check);
        examination.causes.push(cause);
    }
    match options.format {
        Format::Json => output::json(&examination.to_json()?)?,
        Format::Text => {
            let stdout = io::stdout();
            let text = examination.render(output::colour(&stdout));
            output::text(&lay_out(&text, output::width(&stdout)))?;
        }
    }
    Ok(if examination.is_in_order() { Exit::Success } else { Exit::NotInOrder })
}

/// The mount tables of a host: its own, and the runtime's where that is another one.
struct Mounts {
    node: MountTable,
    /// Whether those are the mounts of this program alone, and not of process 1.
    own_namespace: bool,
    runtime: Option<(String, MountTable)>,
}

/// All that is found on a host, from its facts and mount tables alone.
#[derive(Debug, Serialize)]
struct Examination {
    facts: HostFacts,
    checks: Vec<Check>,
    causes: Vec<Cause>,
    /// The mounts on the way to the bridge, the covering one last.
    chain: Vec<MountEntry>,
    /// Whether these are the mounts of this program alone.
    own_namespace: bool,
    /// Whether mounts made by the runtime's containers reach the node, and the other way.
    travel: Vec<Explanation>,
    /// The runtime that has mounts of its own.
    runtime: Option<String>,
}

impl Examination {
    fn new(facts: HostFacts, mounts: &Mounts, plan: &Plan) -> Self {
        let bridge = MountPath::from(plan.bridge.path.as_str());
        let fuse = MountPath::from(plan.bridge.fuse_path().as_str());
        let mut checks = check_host(&facts, plan);
        let mut causes = diagnosis::host(&facts, plan, Some(&mounts.node));
        let mut travel = Vec::new();
        if let Some((process, table)) = &mounts.runtime {
            travel.extend(ways(&mounts.node, table, &fuse).into_iter().flatten());
            let check = runtime_check(process, &travel);
            causes.extend(diagnosis::runtime_apart(process, &plan.bridge.path, &travel));
            checks.push(check);
        }
        let mut chain: Vec<MountEntry> =
            chain(&mounts.node, &bridge).into_iter().cloned().collect();
        // In a chroot the mount that covers it is in no table.
        if chain.is_empty() {
            chain.extend(facts.covering_mount.clone());
        }
        let runtime = mounts.runtime.as_ref().map(|(process, _)| process.clone());
        let own_namespace = mounts.own_namespace;
        Self { facts, checks, causes, chain, own_namespace, travel, runtime }
    }

    fn is_in_order(&self) -> bool {
        let failed = self.checks.iter().any(|check| check.status == Status::Failed);
        !failed && self.causes.is_empty()
    }

    fn to_json(&self) -> Result<serde_json::Value, Error> {
        serde_json::to_value(self).map_err(|error| {
            Error::from_source(propagation_core::ErrorKind::Internal, "write the result", error)
        })
    }

    fn render(&self, colour: Colour) -> String {
        let mut lines = vec![colour.bold(&format!("Host {}", one_line(&self.facts.hostname)))];
        let width = self.checks.iter().map(|check| check.id.to_string().len()).max().unwrap_or(0);
        for check in &self.checks {
            let mark = colour.paint(check.status, sign(check.status));
            let found = one_line(&check.observed);
            lines.push(format!("  {mark} {:width$}  {found}", check.id.to_string()));
            if check.status == Status::Failed {
                let expected = one_line(&check.expected);
                lines.push(format!("    {:width$}  expected: {expected}", ""));
            }
            let evidence = check.evidence.iter().map(|line| one_line(line));
            lines.extend(evidence.map(|line| format!("    {:width$}  {line}", "")));
        }
        lines.push(String::new());
        lines.push(colour.bold("Mounts on the way to the bridge"));
        let links: Vec<&MountEntry> = self.chain.iter().collect();
        lines.extend(draw_chain(&links).iter().map(|line| format!("  {}", one_line(line))));
        if self.own_namespace {
            lines.push(
                "  This program has a mount namespace of its own: all of this is said of its mounts, not of those of \
                 process 1."
                    .to_owned(),
            );
        }
        if let Some(process) = &self.runtime {
            lines.push(format!(
                "  {} has a mount namespace of its own, here called runtime:",
                one_line(process)
            ));
        }
        lines.extend(self.travel.iter().map(|way| format!("  {}", one_line(&way.to_string()))));
        let mut text = lines.join("\n");
        text.push('\n');
        for cause in &self.causes {
            text.push('\n');
            write_cause(&mut text, cause, &cause.verify, colour);
        }
        let kernel = kernel::section(&self.facts.kernel_release, &self.facts.kernel, colour);
        for line in security::section(&self.facts.confinement, colour).into_iter().chain(kernel) {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

/// Whether a mount at a path of the node shows to the runtime, and the other way.
fn ways(node: &MountTable, runtime: &MountTable, path: &MountPath) -> [Option<Explanation>; 2] {
    let views = [("node", node), ("runtime", runtime)];
    let graph = MountGraph::build(views.map(|(label, table)| (label.to_owned(), table.clone())));
    [("node", "runtime"), ("runtime", "node")].map(|(from, to)| visibility(&graph, from, path, to))
}

/// Longest time to look at the bridge of this host.
const LOOK: Duration = Duration::from_secs(5);

/// Shapes the simulated node of a plan by this host.
pub(crate) async fn make_like_this_host(plan: &mut Plan) -> Result<(), Error> {
    let own = own_mounts()?;
    let chain = chain(&own, &MountPath::from(plan.bridge.path.as_str()));
    let facts = facts(&plan.bridge.path, LOOK).await?;
    shape(&mut plan.node, &facts, &chain);
    if let Some(Dead { cause, .. }) = dead_mountpoint(plan, &facts, LOOK).await {
        let (title, fix) = (one_line(&cause.title), one_line(&cause.fix.text));
        eprintln!("warning: {title}; the simulated node has none there. Take it off: {fix}");
    }
    let mounts = mounts()?;
    if let Some((_, runtime)) = &mounts.runtime {
        let path = MountPath::from(plan.bridge.fuse_path().as_str());
        if let [Some(down), Some(up)] = ways(&mounts.node, runtime, &path) {
            plan.node.runtime.namespace = runtime_namespace(&down, &up);
        }
    }
    Ok(())
}

/// What is wrong at the mountpoint in the bridge.
struct Dead {
    check: Check,
    cause: Cause,
}

/// What is wrong at the mountpoint in the bridge of a host: a dead FUSE mount lies there. Of one that hangs nothing is
/// known within the time.
async fn dead_mountpoint(plan: &Plan, host: &HostFacts, timeout: Duration) -> Option<Dead> {
    if host.bridge != PathState::Directory {
        return None;
    }
    let mut there = plan.clone();
    there.bridge.path = plan.bridge.fuse_path();
    let found = facts(&there.bridge.path, timeout).await.ok()?;
    if !matches!(found.bridge, PathState::Error { .. }) {
        return None;
    }
    let check = check_host(&found, &there).into_iter().find(|check| check.id == CheckId::Bridge)?;
    let mut causes = diagnosis::host(&found, &there, None).into_iter();
    let cause = causes.find(|cause| cause.id == CauseId::BridgeUnusable)?;
    Some(Dead { check: check.with_id("mountpoint"), cause })
}

/// Mounts must propagate between the runtime and the node in both directions.
fn runtime_check(process: &str, travel: &[Explanation]) -> Check {
    let stopped: Vec<String> =
        travel.iter().filter(|way| way.broken.is_some()).map(ToString::to_string).collect();
    let observed = if stopped.is_empty() {
        format!("{process} has mounts of its own, which are peers of the node's")
    } else {
        stopped.join("; ")
    };
    Check::new(
        "runtime_namespace",
        stopped.is_empty(),
        "mounts propagate between the runtime's mount namespace and the node's, both ways",
        observed,
    )
}

#[cfg(target_os = "linux")]
async fn facts(bridge: &str, timeout: Duration) -> Result<HostFacts, Error> {
    propagation_backend_local::host_facts(bridge, timeout).await
}

#[cfg(target_os = "linux")]
fn mounts() -> Result<Mounts, Error> {
    let found = propagation_backend_local::host_mounts()?;
    let runtime = found.runtime.map(|runtime| (runtime.process, runtime.table));
    Ok(Mounts { node: found.node, own_namespace: found.own_namespace, runtime })
}

#[cfg(target_os = "linux")]
fn own_mounts() -> Result<MountTable, Error> {
    propagation_backend_local::own_mounts()
}

#[cfg(not(target_os = "linux"))]
fn own_mounts() -> Result<MountTable, Error> {
    Err(crate::runtime::linux_only())
}

#[cfg(not(target_os = "linux"))]
async fn facts(_bridge: &str, _timeout: Duration) -> Result<HostFacts, Error> {
    Err(crate::runtime::linux_only())
}

#[cfg(not(target_os = "linux"))]
fn mounts() -> Result<Mounts, Error> {
    Err(crate::runtime::linux_only())
}

#[cfg(test)]
mod tests {
    use super::*;
    use propagation_core::facts::{FuseConf, FuseDevice};

    fn table(lines: &str) -> MountTable {
        MountTable::parse(lines.as_bytes()).expect("mountinfo")
    }

    fn examine(node: &str, runtime: Option<&str>) -> Examination {
        let plan = Plan::default();
        let node = table(node);
        let facts = HostFacts {
            hostname: "host".into(),
            kernel_release: "6.18".into(),
            architecture: "x86_64".into(),
            uid: 0,
            user_namespace: false,
            mapped_uids: u64::from(u32::MAX),
            fuse_device: FuseDevice::Usable,
            fuse_device_for_all: true,
            fusermount3: None,
            fusermount: None,
            fuse_conf: FuseConf {
                path: "/etc/fuse.conf".into(),
                exists: false,
                user_allow_other: false,
            },
            bridge: PathState::Missing,
            machine_covering_mount: None,
            covering_mount: node.covering(&plan.bridge.path.as_str().into()).cloned(),
            lsm: Vec::new(),
            confinement: Vec::new(),
            cgroup: "v2".into(),
            fanotify_mount_events: true,
            kernel: Vec::new(),
            open_files: (1024, 1024),
            max_mnt_namespaces: None,
            runtime: None,
            kubelet: None,
        };
        let runtime = runtime.map(|lines| ("containerd (process 7)".to_owned(), table(lines)));
        Examination::new(facts, &Mounts { node, own_namespace: false, runtime }, &plan)
    }

    const SHARED: &str = "1 0 8:1 / / rw shared:1 - ext4 d rw\n";

    #[test]
    fn a_host_in_order_has_no_cause() {
        let found = examine(SHARED, None);
        assert!(found.causes.is_empty(), "{:?}", found.causes);
        let text = found.render(Colour::Plain);
        assert!(text.contains("  / (ext4 on 8:1) shared, group 1  <- covers the path"), "{text}");
    }

    #[test]
    fn a_private_covering_mount_is_drawn_and_explained() {
        let node = format!("{SHARED}2 1 0:46 / /tmp rw - tmpfs t rw\n");
        let text = examine(&node, None).render(Colour::Plain);
        assert!(text.contains("  └─ /tmp (tmpfs on 0:46) private"), "{text}");
        assert!(text.contains("(likely; covering-private)"), "{text}");
        assert!(text.contains("mount --make-rshared /tmp"), "{text}");
    }

    #[test]
    fn a_runtime_that_only_receives_is_found() {
        let runtime = "5 0 8:1 / / rw shared:9 master:1 - ext4 d rw\n";
        let found = examine(SHARED, Some(runtime));
        let ids: Vec<&CauseId> = found.causes.iter().map(|cause| &cause.id).collect();
        assert_eq!(ids, [&CauseId::RuntimeOwnNamespace]);
        let text = found.render(Colour::Plain);
        assert!(text.contains("in node shows in runtime at /tmp/fuse-test-bridge/dfs"), "{text}");
        assert!(text.contains("in runtime does not show in node"), "{text}");
    }

    #[test]
    fn a_runtime_with_peers_is_in_order() {
        let found = examine(SHARED, Some("5 0 8:1 / / rw shared:1 - ext4 d rw\n"));
        assert!(found.causes.is_empty(), "{:?}", found.causes);
        assert!(found.checks.iter().all(|check| check.status == Status::Passed));
    }
}
