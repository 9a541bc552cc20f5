//! The commands that repeat a run.

use propagation_model::cause::Cause;
use propagation_model::comparison::Transport;
use propagation_model::plan::{
    Bridge, Covering, Deadlines, Engine, Fault, Plan, Propagation, Role, Volume, WorkloadSpec,
};
use propagation_model::report::Report;

/// The commands that do a run again, for a POSIX shell: one with the options of its plan, on the same
/// node of a cluster if it was on one; where the plan says more than the options can, two that start
/// from its `report.json`.
pub fn commands(report: &Report) -> Vec<String> {
    let node = on_the_node(report);
    let line = |words: Vec<String>| {
        let words = words.into_iter().chain(node.iter().cloned());
        words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
    };
    let by_plan = || ["propagation", "run", "--scenario", "plan.yaml"].map(str::to_owned).into();
    match arguments(&report.plan) {
        Some(words) => vec![line(words)],
        None => {
            vec!["propagation report report.json --format plan > plan.yaml".into(), line(by_plan())]
        }
    }
}

/// The command that shows whether a fix has worked. The pods of a run on a cluster are gone after it, so there the run
/// is repeated.
pub fn verify(report: &Report, cause: &Cause) -> String {
    match report.backend.as_str() {
        "k8s" if !cause.verify.is_empty() => {
            format!("{}   # after the fix", commands(report).join(" && "))
        }
        _ => cause.verify.clone(),
    }
}

/// The options that lead to the same node in the same way.
fn on_the_node(report: &Report) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    if report.backend != "k8s" {
        return words;
    }
    words.extend(["--backend", "k8s", "--node", &report.node].map(str::to_owned));
    let Some(cluster) = &report.cluster else { return words };
    let mut option = |name: &str, value: Option<&str>| {
        words.extend(value.into_iter().flat_map(|value| [name.to_owned(), value.to_owned()]));
    };
    option("--access", Some(if cluster.over_ssh { "ssh" } else { "pod" }));
    option("--kubeconfig", cluster.kubeconfig.as_deref());
    option("--context", cluster.context.as_deref());
    option("--namespace", cluster.namespace.as_deref());
    option("--image", cluster.image.as_deref());
    option("--program-image", cluster.program_image.as_deref());
    option("--ssh-config", cluster.ssh_config.as_deref());
    option("--ssh-user", cluster.ssh_user.as_deref());
    option("--ssh-domain", cluster.ssh_domain.as_deref());
    cluster.tolerations.iter().for_each(|taint| option("--tolerate", Some(taint)));
    words.extend(cluster.import_image.then(|| "--import-image".to_owned()));
    words.extend(cluster.apply.then(|| "--apply".to_owned()));
    words
}

/// The words of `propagation run` that have this plan; none when it says more than the options can.
pub fn arguments(plan: &Plan) -> Option<Vec<String>> {
    let consumer = plan.with_role(Role::Consumer).next()?;
    let producer = plan.producer()?;
    let consumers: u32 = plan.with_role(Role::Consumer).map(|workload| workload.replicas).sum();
    let mut words = vec!["propagation".to_owned(), "run".to_owned()];
    let mut option = |name: &str, value: String, default: String| {
        if value != default {
            words.extend([name.to_owned(), value]);
        }
    };
    option("--bridge", plan.bridge.path.clone(), Bridge::default().path);
    option("--fault", fault(&plan.fault)?.into(), "kill".into());
    option("--volume", volume(&consumer.volume)?.into(), "bridge".into());
    let usual = Propagation::HostToContainer.to_string();
    option("--propagation", consumer.propagation.to_string(), usual);
    option("--consumers", consumers.to_string(), "2".into());
    option("--producer-uid", producer.uid.to_string(), "0".into());
    let is_like_a_host = is_like_a_host(plan);
    if !is_like_a_host {
        option("--covering", covering(plan.node.covering)?.into(), "shared".into());
    }
    let usual = Deadlines::default().run_ms;
    option("--timeout", format!("{}ms", plan.deadlines.run_ms), format!("{usual}ms"));
    if is_like_a_host {
        words.push("--like-this-host".into());
    }
    if let Some(text) = &plan.node.container_fuse_conf {
        // The option adds the end of the line.
        words.extend(["--container-fuse-conf".into(), text.strip_suffix('\n')?.to_owned()]);
    }
    if producer.liveness_probe {
        words.push("--producer-liveness-probe".into());
    }
    if !plan.fuse.allow_other {
        words.push("--no-allow-other".into());
    }
    if let Some(transport) = plan.fuse.transport {
        words.extend(["--transport".into(), transport.to_string()]);
    }
    (*plan == as_the_options_make_it(plan, consumer, producer, consumers)).then_some(words)
}

/// The plan that those options describe, which is this plan unless it says more.
fn as_the_options_make_it(
    plan: &Plan,
    consumer: &WorkloadSpec,
    producer: &WorkloadSpec,
    consumers: u32,
) -> Plan {
    use propagation_model::plan::StartOrder::{AfterMount, BeforeMount};
    let late = consumers.div_ceil(2);
    let sides =
        [("consumer-early", BeforeMount, consumers - late), ("consumer-late", AfterMount, late)];
    let mut workloads = vec![WorkloadSpec::producer().with(|spec| {
        spec.uid = producer.uid;
        spec.liveness_probe = producer.liveness_probe;
    })];
    workloads.extend(sides.into_iter().filter(|side| side.2 > 0).map(|(name, order, replicas)| {
        WorkloadSpec::consumer(name, order).with(|spec| {
            spec.volume = consumer.volume.clone();
            spec.propagation = consumer.propagation;
            spec.replicas = replicas;
        })
    }));
    workloads.push(WorkloadSpec::control());
    Plan::default().with(|new| {
        new.bridge.path.clone_from(&plan.bridge.path);
        new.workloads = workloads;
        new.fault = plan.fault.clone();
        new.fuse.allow_other = plan.fuse.allow_other;
        new.fuse.transport = plan.fuse.transport;
        // The options have their containers made by crun.
        if plan.fuse.transport.is_some_and(Transport::needs_machine_rights) {
            new.node.runtime.engine = Engine::Crun;
        }
        new.deadlines.run_ms = plan.deadlines.run_ms;
        if is_like_a_host(plan) {
            new.node = plan.node.clone();
        }
        new.node.covering = plan.node.covering;
        new.node.container_fuse_conf.clone_from(&plan.node.container_fuse_conf);
    })
}

/// Whether the node is shaped by the host that it is on, and not by a scenario file.
fn is_like_a_host(plan: &Plan) -> bool {
    plan.name.is_none() && !plan.node.mounts.is_empty()
}

fn fault(fault: &Fault) -> Option<&'static str> {
    match fault {
        Fault::Kill => Some("kill"),
        Fault::Terminate => Some("terminate"),
        Fault::Delete => Some("delete"),
        Fault::ForceDelete => Some("force_delete"),
        Fault::Stop => Some("stop"),
        // Only a scenario can name the others.
        _ => None,
    }
}

fn volume(volume: &Volume) -> Option<&'static str> {
    match volume {
        Volume::Bridge => Some("bridge"),
        Volume::Mountpoint => Some("mountpoint"),
        Volume::Ancestor => Some("ancestor"),
        // Only a scenario can name the others.
        _ => None,
    }
}

fn covering(covering: Covering) -> Option<&'static str> {
    match covering {
        Covering::Shared => Some("shared"),
        Covering::Slave => Some("slave"),
        Covering::Private => Some("private"),
        // Only a scenario can name the others.
        _ => None,
    }
}

/// A word as a POSIX shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use propagation_model::plan::NodeMount;
    use propagation_model::report::ClusterAccess;

    use super::*;
    use crate::tests::report;

    /// The commands of a run with this plan.
    fn commands_of(plan: Plan) -> Vec<String> {
        let mut report = report("stopped_daemon");
        report.plan = plan;
        commands(&report)
    }

    #[test]
    fn the_default_plan_needs_no_option() {
        assert_eq!(commands_of(Plan::default()), ["propagation run"]);
    }

    #[test]
    fn a_transport_is_named_with_the_runtime_that_it_has() {
        let mut plan = Plan::default();
        plan.fuse.transport = Some(Transport::SmbRclone);
        assert_eq!(commands_of(plan.clone()), ["propagation run --transport smb-rclone"]);
        plan.fuse.transport = Some(Transport::Nfs);
        plan.node.runtime.engine = Engine::Crun;
        assert_eq!(commands_of(plan.clone()), ["propagation run --transport nfs"]);
        plan.node.runtime.engine = Engine::Runc;
        assert_eq!(commands_of(plan).len(), 2);
    }

    #[test]
    fn a_node_like_this_host_is_made_so_again() {
        let mut plan = Plan::default();
        plan.node.covering = Covering::Private;
        plan.node.fuse_conf = Some("user_allow_other\n".into());
        plan.node.mounts.push(NodeMount { at: "/".into(), propagation: Covering::Private });
        assert_eq!(commands_of(plan.clone()), ["propagation run --like-this-host"]);
        plan.name = Some("file".into());
        assert_eq!(commands_of(plan).len(), 2, "a file says more than options");
    }

    #[test]
    fn a_node_of_a_cluster_is_named() {
        let mut report = report("stopped_daemon");
        (report.backend, report.node) = ("k8s".into(), "k3s-w1".into());
        report.plan = Plan::default();
        assert_eq!(commands(&report), ["propagation run --backend k8s --node k3s-w1"]);
        let mut access = ClusterAccess::default();
        access.over_ssh = true;
        access.namespace = Some("tests".into());
        access.tolerations = vec!["*".into()];
        report.cluster = Some(access);
        let again = "propagation run --backend k8s --node k3s-w1 --access ssh --namespace tests \
                     --tolerate '*'";
        assert_eq!(commands(&report), [again]);
        report.cluster = None;
        report.plan.recovery.pop();
        let again = "propagation run --scenario plan.yaml --backend k8s --node k3s-w1";
        assert_eq!(commands(&report)[1], again);
    }

    #[test]
    fn what_differs_is_said() {
        let mut plan = Plan::default();
        plan.fault = Fault::Stop;
        plan.fuse.allow_other = false;
        plan.bridge.path = "/tmp/it's here".into();
        plan.node.covering = Covering::Private;
        let expected = r"propagation run --bridge '/tmp/it'\''s here' --fault stop --covering private --no-allow-other";
        assert_eq!(commands_of(plan), [expected]);
    }

    #[test]
    fn a_plan_that_says_more_than_the_options_has_no_command() {
        let mut plan = Plan::default();
        plan.workloads[1].uid = 7;
        assert_eq!(commands_of(plan).len(), 2);
        let mut plan = Plan::default();
        plan.recovery.pop();
        assert_eq!(commands_of(plan).len(), 2);
    }
}
