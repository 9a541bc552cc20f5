//! Where a run takes place.

use std::path::PathBuf;

use propagation_backend_k8s::{self as k8s, Access, K8sOptions, parse_toleration};
use propagation_core::experiments::Budget;
use propagation_core::{Backend, Error, ErrorKind, Report, Runner};
use pyo3::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::error::{OrRaise, invalid};

/// The syntax of a toleration, as a fix.
const TAINT: &str = "write KEY[=VALUE][:EFFECT], or * for every taint";

/// The nodes of a cluster, as `backend` of a run. Making one touches nothing.
///
/// `kubeconfig` replaces `$KUBECONFIG` or `~/.kube/config`, and is only read; `context` replaces its
/// current context. Without `node` the run uses the first node that can carry it, without `namespace`
/// it makes one.
///
/// `access` says how the node itself is reached: `ssh`, through a privileged `pod`, or `found`: over
/// ssh if the ssh configuration has the node, otherwise through a pod. `ssh_config` replaces
/// `~/.ssh/config`, `ssh_user` its user, and `ssh_domain` is appended to the node's name to give the
/// host name. `image` is an image with the agent, for nodes that the agent cannot be sent to; with
/// `import_image` such an image is made and imported over ssh.
///
/// `program_image` is an image with the programs that scenarios start in containers; by default these
/// containers get the node's own programs, read-only.
///
/// `tolerations` are taints to ignore: `KEY[=VALUE][:EFFECT]`, or `*` for all.
/// `apply` puts `user_allow_other` into the node's `/etc/fuse.conf` for the time of the run.
///
/// Raises `InvalidInputError` for values that cannot be parsed, `UnsupportedError` for ssh options
/// on a system without a usable ssh.
#[pyclass(frozen, eq, module = "propagation")]
#[derive(PartialEq)]
pub(crate) struct K8sBackend(K8sOptions);

#[pymethods]
impl K8sBackend {
    #[new]
    #[pyo3(signature = (*, kubeconfig = None, context = None, node = None, namespace = None,
        image = None, program_image = None, access = "found", ssh_config = None, ssh_user = None, ssh_domain = None,
        import_image = false, tolerations = Vec::new(), apply = false))]
    #[pyo3(text_signature = "(*, kubeconfig=None, context=None, node=None, namespace=None, \
        image=None, program_image=None, access='found', ssh_config=None, ssh_user=None, ssh_domain=None, \
        import_image=False, tolerations=(), apply=False)")]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn new(
        py: Python<'_>,
        kubeconfig: Option<PathBuf>,
        context: Option<String>,
        node: Option<String>,
        namespace: Option<String>,
        image: Option<String>,
        program_image: Option<String>,
        access: &str,
        ssh_config: Option<PathBuf>,
        ssh_user: Option<String>,
        ssh_domain: Option<String>,
        import_image: bool,
        tolerations: Vec<String>,
        apply: bool,
    ) -> PyResult<Self> {
        let tolerations = tolerations.iter().map(|text| {
            let bad = |reason| invalid(format!("toleration {text:?}"), reason, TAINT);
            parse_toleration(text).map_err(bad)
        });
        let options = K8sOptions {
            kubeconfig,
            context,
            node,
            namespace,
            image,
            program_image,
            access: access_called(access).or_raise(py)?,
            import_image,
            tolerations: tolerations.collect::<Result<_, _>>().or_raise(py)?,
            apply,
            ..K8sOptions::default()
        };
        with_ssh(options, ssh_config, ssh_user, ssh_domain).map(Self).or_raise(py)
    }

    fn __repr__(&self) -> String {
        match &self.0.node {
            Some(node) => format!("<K8sBackend of node {node}>"),
            None => "<K8sBackend>".to_owned(),
        }
    }
}

fn access_called(word: &str) -> Result<Access, Error> {
    match word {
        "found" => Ok(Access::Found),
        "ssh" => Ok(Access::Ssh),
        "pod" => Ok(Access::Pod),
        _ => Err(invalid(
            format!("access {word:?}"),
            "unknown way to reach a node",
            "use found, ssh or pod",
        )),
    }
}

#[cfg(unix)]
fn with_ssh(
    options: K8sOptions,
    config: Option<PathBuf>,
    user: Option<String>,
    domain: Option<String>,
) -> Result<K8sOptions, Error> {
    let ssh = k8s::SshOptions { config, user, domain };
    Ok(K8sOptions { ssh, ..options })
}

#[cfg(not(unix))]
fn with_ssh(
    options: K8sOptions,
    config: Option<PathBuf>,
    user: Option<String>,
    domain: Option<String>,
) -> Result<K8sOptions, Error> {
    if config.is_none() && user.is_none() && domain.is_none() {
        return Ok(options);
    }
    let reason = "this system has no ssh that could be used";
    Err(Error::new(ErrorKind::Unsupported, "reach the node over ssh", reason)
        .with_fix("leave the ssh options out: the node is reached through a pod"))
}

/// A backend as Python names it: a word, or one with options.
#[derive(FromPyObject)]
pub(crate) enum Named<'py> {
    #[pyo3(transparent, annotation = "str")]
    Word(String),
    #[pyo3(transparent, annotation = "K8sBackend")]
    K8s(PyRef<'py, K8sBackend>),
}

impl Named<'_> {
    /// What it means.
    pub(crate) fn read(self) -> Result<Chosen, Error> {
        match self {
            Self::K8s(backend) => Ok(Chosen::K8s(Box::new(backend.0.clone()))),
            Self::Word(word) => match word.as_str() {
                #[cfg(target_os = "linux")]
                "local" => Ok(Chosen::Local),
                #[cfg(not(target_os = "linux"))]
                "local" => {
                    let reason = "it needs Linux";
                    Err(Error::new(ErrorKind::Unsupported, "use the local backend", reason)
                        .with_fix("run it on a Linux machine, or use k8s"))
                }
                "k8s" => Ok(Chosen::K8s(Box::default())),
                _ => {
                    Err(invalid(format!("backend {word:?}"), "unknown backend", "use local or k8s"))
                }
            },
        }
    }
}

/// A backend that is yet to be connected to.
pub(crate) enum Chosen {
    #[cfg(target_os = "linux")]
    Local,
    K8s(Box<K8sOptions>),
}

impl Chosen {
    /// Whether it is simulated nodes of this machine.
    pub(crate) fn is_local(&self) -> bool {
        !matches!(self, Self::K8s(_))
    }

    /// Connects to it, and does a piece of work on it.
    ///
    /// # Errors
    /// Those of the work, and [`ErrorKind::Cancelled`] while it connects.
    pub(crate) async fn on<T>(
        self,
        cancellation: &CancellationToken,
        work: impl AsyncFnOnce(&dyn Backend) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Local => work(&propagation_backend_local::LocalBackend::new()).await,
            Self::K8s(options) => {
                let connecting = k8s::K8sBackend::connect(*options);
                let connected = cancellation.run_until_cancelled(connecting).await;
                let backend = connected.unwrap_or_else(|| {
                    let operation = "connect to the API server";
                    Err(Error::new(ErrorKind::Cancelled, operation, "it was interrupted"))
                })?;
                let result = work(&backend).await;
                backend.settle().await;
                result
            }
        }
    }

    /// Carries a run out on it.
    ///
    /// # Errors
    /// Those of [`Runner::run`], and [`ErrorKind::Cancelled`] while it connects.
    pub(crate) async fn run(
        self,
        runner: Runner,
        cancellation: &CancellationToken,
    ) -> Result<Report, Error> {
        self.on(cancellation, async |backend| runner.run(backend).await).await
    }
}

/// Lets a runner try changes on simulated nodes of this machine.
#[cfg(target_os = "linux")]
pub(crate) fn with_experiments(runner: Runner, budget: Budget) -> Runner {
    let bench = std::sync::Arc::new(propagation_backend_local::LocalBackend::new());
    runner.with_experiments(bench, budget)
}

/// Says that nothing can be tried on this machine.
#[cfg(not(target_os = "linux"))]
pub(crate) fn with_experiments(runner: Runner, _: Budget) -> Runner {
    runner.without_bench("simulated nodes need Linux")
}
