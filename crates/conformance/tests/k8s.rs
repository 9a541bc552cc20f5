//! The suite on a node of a real cluster: that of `KUBECONFIG`, over ssh where
//! `PROPAGATION_SSH_CONFIG` names a configuration in which the nodes are called as in the cluster.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use propagation_backend_k8s::{Access, K8sBackend, K8sOptions};
use propagation_conformance::{Need, Suite, cluster_named, run_suites};
use propagation_core::fake::FakeBackend;
use propagation_core::plan::FaultKind;
use propagation_core::{Backend, Capabilities, Error, ErrorKind, Feature, Node, Plan, Run, RunId};

/// The namespace that all cases share: making and deleting one takes longer than a case.
const NAMESPACE: &str = "propagation-conformance";

/// How long Kubernetes may take to delete it.
const GONE_WITHIN: Duration = Duration::from_secs(120);

/// Each case has an async runtime of its own, and a client belongs to one.
#[derive(Clone)]
struct Fresh(K8sOptions);

#[async_trait]
impl Backend for Fresh {
    fn name(&self) -> &str {
        "k8s"
    }

    fn capabilities(&self) -> Capabilities {
        // Opening says what a cluster cannot do.
        Capabilities::all()
    }

    fn missing(&self, _plan: &Plan) -> Option<String> {
        None
    }

    async fn open(&self, plan: &Plan, run: &Run) -> Result<Box<dyn Node>, Error> {
        K8sBackend::connect(self.0.clone()).await?.open(plan, run).await
    }
}

/// Whether nodes of a cluster can do it: signals, orders, deletions and unmounts, and what the trait methods do.
fn is_declared(need: Need) -> bool {
    match need {
        Need::Feature(feature) => matches!(
            feature,
            Feature::OtherUids | Feature::Replicas | Feature::RealKernel | Feature::Keeper
        ),
        Need::Fault(fault) => fault != FaultKind::Oom,
        Need::Access(access) => access != propagation_core::observation::Access::Held,
        _ => true,
    }
}

fn options() -> K8sOptions {
    let mut options = K8sOptions { namespace: Some(NAMESPACE.into()), ..K8sOptions::default() };
    #[cfg(unix)]
    if let Some(config) = std::env::var_os("PROPAGATION_SSH_CONFIG") {
        options.access = Access::Ssh;
        options.ssh.config = Some(config.into());
    } else {
        options.access = Access::Pod;
    }
    options
}

fn main() -> ExitCode {
    if let Err(reason) = cluster_named() {
        return absent(reason);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("an async runtime");
    let made = runtime
        .block_on(async { K8sBackend::connect(options()).await?.make_namespace(NAMESPACE).await });
    match made {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::Environment => return absent(&error.to_string()),
        Err(error) => return failure(&error.to_string()),
    }
    let suite = Suite::new(Fresh(options()))
        // A real node is what it is.
        .accepting_without(Need::all().filter(|need| !is_declared(*need)))
        // A kubelet looks every second, and waits 10 s before it restarts a container again.
        .with_soon(Duration::from_secs(45))
        .with_case_deadline(Duration::from_secs(240))
        .with_remover(|run| async move { remove(&run).await.map_err(|error| error.to_string()) });
    let code = run_suites(vec![suite]);
    match runtime.block_on(end()) {
        Ok(left) if left.is_empty() => code,
        Ok(left) => failure(&format!("cases have left something behind: {}", left.join("; "))),
        Err(error) => failure(&format!("the namespace {NAMESPACE} stays: {error}")),
    }
}

/// Every case is skipped, or fails where the cluster is required.
fn absent(reason: &str) -> ExitCode {
    let absent = FakeBackend::default().with_name("k8s").with_absence(reason);
    run_suites(vec![Suite::new(absent)])
}

fn failure(words: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{words}");
    ExitCode::FAILURE
}

/// Removes what cases have left, which is told, deletes the namespace and waits until it is gone.
async fn end() -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let backend = K8sBackend::connect(options()).await?;
    let mut left = Vec::new();
    for leftover in backend.leftovers().await? {
        let cleanup = backend.remove(&leftover).await;
        let lines = cleanup.undone.iter().chain(&cleanup.could_not).cloned();
        left.extend(lines.map(|line| format!("run {}: {line}", leftover.run_id)));
        if !cleanup.could_not.is_empty() {
            return Err(left.join("; ").into());
        }
    }
    backend.delete_namespace(NAMESPACE).await?;
    let spaces: Api<Namespace> = Api::all(Client::try_default().await?);
    let gone = await_condition(spaces, NAMESPACE, |there: Option<&Namespace>| there.is_none());
    tokio::time::timeout(GONE_WITHIN, gone).await??;
    Ok(left)
}

async fn remove(run: &RunId) -> Result<(), Error> {
    let backend = K8sBackend::connect(options()).await?;
    for leftover in backend.leftovers().await? {
        if leftover.run_id == *run {
            let cleanup = backend.remove(&leftover).await;
            if let Some(line) = cleanup.could_not.first() {
                let operation = format!("remove run {run}");
                return Err(Error::new(ErrorKind::Internal, operation, line));
            }
        }
    }
    Ok(())
}
