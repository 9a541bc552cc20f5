//! The suite on a node of a real cluster: that of `KUBECONFIG`, over ssh where
//! `PROPAGATION_SSH_CONFIG` names a configuration in which the nodes are called as in the cluster.

use std::io::Write as _;
use std::process::ExitCode;

use async_trait::async_trait;
use propagation_backend_k8s::{Access, K8sBackend, K8sOptions, clean};
use propagation_conformance::{Need, Suite, run_suites};
use propagation_core::fake::FakeBackend;
use propagation_core::{Backend, Error, Node, Plan, Run, RunId};

/// The namespace that all cases share: making and deleting one takes longer than a case.
const NAMESPACE: &str = "propagation-conformance";

/// Each case has an async runtime of its own, and a client belongs to one.
#[derive(Clone)]
struct Fresh(K8sOptions);

#[async_trait]
impl Backend for Fresh {
    fn name(&self) -> &str {
        "k8s"
    }

    fn refuses(&self, _plan: &Plan) -> Option<String> {
        // Opening says the same.
        None
    }

    async fn open(&self, plan: &Plan, run: &Run) -> Result<Box<dyn Node>, Error> {
        K8sBackend::connect(self.0.clone()).await?.open(plan, run).await
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
    if std::env::var_os("KUBECONFIG").is_none() {
        let absent = FakeBackend::default()
            .with_name("k8s")
            .with_absence("KUBECONFIG names no cluster that tests may use");
        return run_suites(vec![Suite::new(absent)]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("an async runtime");
    let made = runtime
        .block_on(async { K8sBackend::connect(options()).await?.make_namespace(NAMESPACE).await });
    if let Err(error) = made {
        let absent = FakeBackend::default().with_name("k8s").with_absence(error.to_string());
        return run_suites(vec![Suite::new(absent)]);
    }
    let suite = Suite::new(Fresh(options()))
        // A real node is what it is.
        .accepting_without([Need::ShapeNode])
        // A kubelet looks every second, and waits 10 s before it restarts a container again.
        .with_soon(std::time::Duration::from_secs(45))
        .with_case_deadline(std::time::Duration::from_secs(240))
        .with_remover(|run| async move { remove(&run).await.map_err(|error| error.to_string()) });
    let code = run_suites(vec![suite]);
    let deleted = runtime.block_on(async {
        K8sBackend::connect(options()).await?.delete_namespace(NAMESPACE).await
    });
    if let Err(error) = deleted {
        // The cases have been told; the cluster is a test's own.
        let _ = writeln!(std::io::stderr(), "the namespace {NAMESPACE} stays: {error}");
    }
    code
}

async fn remove(run: &RunId) -> Result<(), Error> {
    let backend = K8sBackend::connect(options()).await?;
    for leftover in clean::leftovers(&backend).await? {
        if leftover.run_id == *run {
            let cleanup = clean::remove(&backend, &leftover).await;
            if let Some(line) = cleanup.could_not.first() {
                let operation = format!("remove run {run}");
                return Err(Error::new(propagation_core::ErrorKind::Internal, operation, line));
            }
        }
    }
    Ok(())
}
