//! The five phases on a node of a real cluster, and a bare floor: the same pods created, awaited by
//! watch, killed and created again through the API server, and nothing else.
//!
//! The cluster is that of `KUBECONFIG`; its nodes are reached over ssh where
//! `PROPAGATION_SSH_CONFIG` names a configuration, otherwise through host pods.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::wait::{await_condition, conditions::is_pod_running};
use kube::{Api, Client, ResourceExt};
use propagation_benches::options;
use propagation_benches::run_tool::{self, ToolRun};
use propagation_benches::statistics::Samples;
use propagation_benches::table::{Table, against, heading, milliseconds, note};
use serde_json::json;

/// The project's limits: seconds to the verdict on one node, in floors, and two nodes to one.
const LIMIT_MS: f64 = 8_000.0;
const LIMIT_FLOORS: f64 = 1.25;
const LIMIT_TWO_NODES: f64 = 1.3;

/// How long pods may take.
const WITHIN: Duration = Duration::from_secs(60);

fn main() -> io::Result<()> {
    if std::env::var_os("KUBECONFIG").is_none_or(|path| path.is_empty()) {
        note("k8s: skipped, KUBECONFIG names no cluster");
        return Ok(());
    }
    let tool = run_tool::find(Path::new(env!("CARGO_BIN_EXE_floor")))?;
    let scratch = tempfile::tempdir()?;
    let rounds = options::number("rounds", 5);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cluster = runtime.block_on(Cluster::find()).map_err(io::Error::other)?;
    let (mut ones, mut twos, mut floors) = (Vec::new(), Vec::new(), Samples::default());
    for _ in 0..rounds {
        ones.push(run_tool::run(&tool, scratch.path(), &arguments(&cluster.nodes[..1]))?);
        floors.push(runtime.block_on(cluster.floor()).map_err(io::Error::other)?);
        if cluster.nodes.len() > 1 {
            twos.push(two_nodes(&tool, scratch.path(), &cluster.nodes[..2])?);
        }
    }
    heading(
        "k8s",
        &[
            &format!(
                "{rounds} rounds; in each the tool runs on one node, then the floor, then the tool"
            ),
            "on two nodes. The tool is a process, from just before it is started to the line of the",
            "verdict in its log; of two nodes the later verdict counts. The floor makes a namespace",
            "and the same five pods, waits by watch until each runs, and deletes and makes the",
            "producer anew.",
        ],
    );
    print(&ones, &floors, &twos.into_iter().collect());
    Ok(())
}

fn arguments(nodes: &[String]) -> Vec<String> {
    let mut words = vec!["--backend".into(), "k8s".into(), "--node".into(), nodes.join(",")];
    if let Ok(config) = std::env::var("PROPAGATION_SSH_CONFIG") {
        words.extend(["--access".into(), "ssh".into(), "--ssh-config".into(), config]);
    } else {
        words.extend(["--access".into(), "pod".into()]);
    }
    words
}

/// Milliseconds until both verdicts are there.
fn two_nodes(tool: &Path, scratch: &Path, nodes: &[String]) -> io::Result<f64> {
    let mut command = std::process::Command::new(tool);
    command.arg("run").args(arguments(nodes)).arg("--log-dir").arg(scratch);
    let started = jiff::Timestamp::now();
    let output = command.output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        return Err(io::Error::other(format!("two nodes: {}:\n{text}", output.status)));
    }
    let mut last = 0.0_f64;
    for entry in std::fs::read_dir(scratch)? {
        let path = entry?.path();
        let log = std::fs::read_to_string(&path)?;
        std::fs::remove_file(path)?;
        let line = log
            .lines()
            .find_map(|line| line.split_once(' ').filter(|(_, text)| text.starts_with("verdict ")));
        let (stamp, _) = line.ok_or_else(|| io::Error::other("no verdict in a log"))?;
        let at: jiff::Timestamp = stamp.parse().map_err(io::Error::other)?;
        last = last.max(at.duration_since(started).as_secs_f64() * 1e3);
    }
    Ok(last)
}

fn print(ones: &[ToolRun], floors: &Samples, twos: &Samples) {
    let verdict: Samples = ones.iter().map(|run| run.decided_ms).collect();
    let ended: Samples = ones.iter().map(|run| run.ended_ms).collect();
    let mut table = Table::new(["time", "median", "most", "least"]);
    for (name, samples) in [
        ("tool, one node: start to the verdict", &verdict),
        ("tool, one node: start to the end, all cleaned up", &ended),
        ("floor: the same pods and nothing else", floors),
        ("tool, two nodes: start to the later verdict", twos),
    ] {
        if !samples.is_empty() {
            let of = |percent| milliseconds(samples.percentile(percent));
            table.row([name.to_owned(), of(50), of(100), of(0)]);
        }
    }
    table.print();
    let (median, floor) = (verdict.median(), verdict.ratio_to(floors).median());
    note(&format!(
        "Limit to the verdict {}: {}.",
        milliseconds(LIMIT_MS),
        against(median, LIMIT_MS)
    ));
    note(&format!("Limit {LIMIT_FLOORS} floors: {} ({floor:.2}).", against(floor, LIMIT_FLOORS)));
    if !twos.is_empty() {
        let two = twos.ratio_to(&verdict).median();
        note(&format!(
            "Limit for two nodes {LIMIT_TWO_NODES} times one: {} ({two:.2}).\n",
            against(two, LIMIT_TWO_NODES)
        ));
    }
    let mut table = Table::new(["where the time of one node goes (medians, by its log)", "time"]);
    for (name, _) in ones.first().map_or(&[][..], |run| &run.stages) {
        let of = |run: &ToolRun| run.stages.iter().find(|stage| stage.0 == *name).map(|s| s.1);
        let times: Samples = ones.iter().filter_map(of).collect();
        table.row([name.clone(), milliseconds(times.median())]);
    }
    table.print();
    let mut table =
        Table::new(["who has the time to the verdict (medians, by its reports)", "time"]);
    for name in [
        "waited for the kubelet until the verdict",
        "waited for the container runtime",
        "everything else until the verdict",
    ] {
        let times: Samples = ones.iter().filter_map(|run| run.measured(name)).collect();
        table.row([name.to_owned(), milliseconds(times.median())]);
    }
    table.print();
}

/// A cluster, and an image on its first node.
struct Cluster {
    client: Client,
    nodes: Vec<String>,
    image: String,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Cluster {
    async fn find() -> Result<Self, Failure> {
        let client = Client::try_default().await?;
        let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
        let first = nodes.items.first().ok_or("the cluster has no node")?;
        let images = first.status.iter().flat_map(|status| status.images.iter().flatten());
        let mut names = images.filter_map(|image| image.names.as_ref()?.first().cloned());
        let image = names.find(|name| name.contains("pause")).ok_or("no pause image")?;
        let nodes = nodes.iter().map(ResourceExt::name_any).collect();
        Ok(Self { client, nodes, image })
    }

    /// The pods of the five phases, in a namespace of their own; milliseconds.
    async fn floor(&self) -> Result<f64, Failure> {
        let started = Instant::now();
        let spaces: Api<Namespace> = Api::all(self.client.clone());
        let name = format!("floor-{}", jiff::Timestamp::now().as_millisecond());
        let object = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
        spaces.create(&PostParams::default(), &object).await?;
        let result = self.pods(&name).await;
        let elapsed = started.elapsed().as_secs_f64() * 1e3;
        spaces.delete(&name, &DeleteParams::default()).await?;
        result.map(|()| elapsed)
    }

    async fn pods(&self, space: &str) -> Result<(), Failure> {
        // The service account of a namespace that is new comes a moment later.
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), space);
        let there = |account: Option<&ServiceAccount>| account.is_some();
        tokio::time::timeout(WITHIN, await_condition(accounts, "default", there)).await??;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), space);
        tokio::try_join!(
            self.start(&api, "producer", "Bidirectional"),
            self.start(&api, "consumer-early", "HostToContainer"),
            self.start(&api, "control", "None"),
        )?;
        self.start(&api, "consumer-late", "HostToContainer").await?;
        api.delete("producer", &DeleteParams::default().grace_period(0)).await?;
        self.start(&api, "consumer-during-fault", "HostToContainer").await?;
        self.start(&api, "producer", "Bidirectional").await
    }

    async fn start(&self, api: &Api<Pod>, name: &str, propagation: &str) -> Result<(), Failure> {
        let pod = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": {
                "nodeName": self.nodes[0],
                "serviceAccountName": "default",
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main",
                    "image": self.image,
                    "imagePullPolicy": "IfNotPresent",
                    "securityContext": { "privileged": propagation == "Bidirectional" },
                    "volumeMounts": [{
                        "name": "bridge", "mountPath": "/mnt", "mountPropagation": propagation,
                    }],
                }],
                "volumes": [{
                    "name": "bridge",
                    "hostPath": { "path": "/tmp/propagation-floor", "type": "DirectoryOrCreate" },
                }],
            },
        }))?;
        api.create(&PostParams::default(), &pod).await?;
        let running = await_condition(api.clone(), name, is_pod_running());
        tokio::time::timeout(WITHIN, running).await??;
        Ok(())
    }
}
