//! A suite: the cases, on one backend.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use propagation_core::facts::FuseDevice;
use propagation_core::{Backend, ErrorKind, RunId};

use crate::case::Case;
use crate::cases;
use crate::failure::Failure;
use crate::lab::{Lab, Remover};
use crate::need::{Need, Offer};
use crate::require::{REQUIRE, Required};
use crate::skip::Skip;
use crate::watchdog::watch;

/// A check of this machine after the nodes of a case are closed.
type Afterwards = Arc<dyn Fn(&RunId) -> Result<(), String> + Send + Sync>;

/// The cases, on one backend.
#[derive(Clone)]
pub struct Suite {
    name: String,
    backend: Arc<dyn Backend>,
    pub(crate) required: Required,
    accepted: Vec<Need>,
    case_deadline: Duration,
    soon: Duration,
    remover: Option<Remover>,
    afterwards: Option<Afterwards>,
    environment: Arc<OnceLock<Environment>>,
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Suite").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a case came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseOutcome {
    /// The backend keeps this part of the contract.
    Passed,
    /// It was not done.
    Skipped(Skip),
    /// It does not keep it; in words.
    Failed(String),
}

/// What opening a node gave.
#[derive(Debug, Clone)]
enum Environment {
    Present(Offer),
    Absent(String),
    Broken(String),
}

impl Environment {
    /// Opens a node and looks whether FUSE can be had on it.
    async fn of(lab: &Lab) -> Self {
        let node = match lab.try_open(&lab.plan()).await {
            Ok(node) => node,
            Err(error) if error.kind() == ErrorKind::Environment => {
                let fix = error.fix().map(|fix| format!("; {fix}")).unwrap_or_default();
                return Self::Absent(format!("{error}{fix}"));
            }
            Err(error) => return Self::Broken(error.to_string()),
        };
        let facts = match node.facts().await {
            Ok(facts) => facts,
            Err(error) => return Self::Broken(error.to_string()),
        };
        if let FuseDevice::Unusable { errno } = facts.fuse_device {
            return Self::Absent(format!("a node opens, and its /dev/fuse gives {errno}"));
        }
        Self::Present(Offer {
            capabilities: node.capabilities(),
            fusermount3: facts.fusermount3.is_some() && facts.fuse_device_for_all,
            remover: lab.remover.is_some(),
        })
    }
}

impl Suite {
    /// The cases on `backend`, under its own name.
    pub fn new(backend: impl Backend + 'static) -> Self {
        Self {
            name: backend.name().to_owned(),
            backend: Arc::new(backend),
            required: Required::from_environment(),
            accepted: Vec::new(),
            case_deadline: Duration::from_secs(60),
            soon: Duration::from_secs(10),
            remover: None,
            afterwards: None,
            environment: Arc::default(),
        }
    }

    /// Another name, for several suites on one backend.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Declares that these may be missing even where the backend is required.
    #[must_use]
    pub fn accepting_without(mut self, needs: impl IntoIterator<Item = Need>) -> Self {
        self.accepted.extend(needs);
        self
    }

    /// How long one case may take; 60 s otherwise.
    #[must_use]
    pub fn with_case_deadline(mut self, deadline: Duration) -> Self {
        self.case_deadline = deadline;
        self
    }

    /// How long something may take that has to happen, such as a mount; 10 s otherwise.
    #[must_use]
    pub fn with_soon(mut self, soon: Duration) -> Self {
        self.soon = soon;
        self
    }

    /// Removes a kept node. Without it the cases about kept nodes are skipped.
    #[must_use]
    pub fn with_remover<Removing>(
        mut self,
        remover: impl Fn(RunId) -> Removing + Send + Sync + 'static,
    ) -> Self
    where
        Removing: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.remover = Some(Arc::new(move |run| Box::pin(remover(run))));
        self
    }

    /// Adds a check of this machine after the nodes of a case are closed; anything that it finds fails the
    /// case.
    #[must_use]
    pub fn with_look_afterwards(
        mut self,
        look: impl Fn(&RunId) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.afterwards = Some(Arc::new(look));
        self
    }

    /// One trial for every case, and one for the environment itself.
    pub fn trials(&self) -> Vec<Trial> {
        let suite = self.clone();
        let environment = Trial::ignorable_test(format!("{}::environment", self.name), move || {
            suite.told(suite.check_environment())
        });
        let cases = cases::all().map(|case| {
            let suite = self.clone();
            let name = format!("{}::{}", self.name, case.path());
            Trial::ignorable_test(name, move || suite.told(suite.outcome_of(&case)))
        });
        std::iter::once(environment).chain(cases).collect()
    }

    /// Runs every case, one after the other, and says how each came out.
    pub fn outcomes(&self) -> Vec<(String, CaseOutcome)> {
        cases::all().map(|case| (case.path(), self.outcome_of(&case))).collect()
    }

    /// Runs one case; none if the case is unknown.
    pub fn outcome(&self, path: &str) -> Option<CaseOutcome> {
        cases::all().find(|case| case.path() == path).map(|case| self.outcome_of(&case))
    }

    /// In libtest's words; a skip that is not acceptable here is a failure.
    pub(crate) fn told(&self, outcome: CaseOutcome) -> Result<Completion, Failed> {
        match outcome {
            CaseOutcome::Passed => Ok(Completion::Completed),
            CaseOutcome::Failed(words) => Err(words.into()),
            CaseOutcome::Skipped(skip) if self.refuses(&skip) => Err(format!(
                "skipped ({skip}), and {REQUIRE} says that nothing of {} may be left out",
                self.name
            )
            .into()),
            CaseOutcome::Skipped(skip) => Ok(Completion::ignored_with(skip)),
        }
    }

    fn refuses(&self, skip: &Skip) -> bool {
        self.required.has(&self.name)
            && match skip {
                Skip::Absent { .. } => true,
                Skip::Lacks(need) => !self.accepted.contains(need),
                Skip::NotApplicable { .. } => false,
            }
    }

    /// The environment, and that at least one case is done in it.
    fn check_environment(&self) -> CaseOutcome {
        match self.environment() {
            Environment::Absent(reason) => CaseOutcome::Skipped(Skip::Absent { reason }),
            Environment::Broken(reason) => CaseOutcome::Failed(reason),
            Environment::Present(offer) => {
                let fits = |case: &Case| case.needs().all(|need| need.is_met_by(&offer));
                match cases::all().filter(fits).count() {
                    0 => CaseOutcome::Failed("no case runs with these capabilities".into()),
                    _ => CaseOutcome::Passed,
                }
            }
        }
    }

    fn environment(&self) -> Environment {
        let backend = Arc::clone(&self.backend);
        let (deadline, soon) = (self.case_deadline, self.soon);
        let remover = self.remover.clone();
        let open = move || async move {
            let lab = Lab::new(backend, soon, remover);
            let looked = tokio::time::timeout(deadline, Environment::of(&lab)).await;
            let environment = looked
                .unwrap_or_else(|_| Environment::Broken("opening a node does not end".into()));
            lab.close().await.map_or_else(Environment::Broken, |_| environment)
        };
        self.environment
            .get_or_init(|| watch(deadline, open).unwrap_or_else(Environment::Broken))
            .clone()
    }

    fn outcome_of(&self, case: &Case) -> CaseOutcome {
        let offer = match self.environment() {
            Environment::Present(offer) => offer,
            Environment::Absent(reason) => return CaseOutcome::Skipped(Skip::Absent { reason }),
            Environment::Broken(reason) => return CaseOutcome::Failed(reason),
        };
        if let Some(need) = case.needs().find(|need| !need.is_met_by(&offer)) {
            return CaseOutcome::Skipped(Skip::Lacks(need));
        }
        let (suite, case) = (self.clone(), *case);
        let outcome = watch(self.case_deadline, move || suite.carry_out(case));
        match outcome {
            Ok(Ok(())) => CaseOutcome::Passed,
            Ok(Err(Failure::Skipped(skip))) => CaseOutcome::Skipped(skip),
            Ok(Err(Failure::Broken(words))) | Err(words) => CaseOutcome::Failed(words),
        }
    }

    /// Does a case, closes its nodes, and looks at what it has left.
    async fn carry_out(self, case: Case) -> Result<(), Failure> {
        let lab = Lab::new(Arc::clone(&self.backend), self.soon, self.remover.clone());
        let done = tokio::time::timeout(self.case_deadline, cases::begin(&case, &lab)).await;
        let done = done.unwrap_or_else(|_| {
            Err(Failure::new(format_args!("no end in {} s", self.case_deadline.as_secs_f64())))
        });
        let runs = lab.close().await.map_err(Failure::Broken);
        done?;
        if let Some(look) = &self.afterwards {
            for run in runs? {
                gone(&**look, &run).await.map_err(Failure::Broken)?;
            }
        } else {
            runs?;
        }
        Ok(())
    }
}

/// Looks until nothing is left: what was dropped, and not closed, ends by itself and a little later.
async fn gone(
    look: &(dyn Fn(&RunId) -> Result<(), String> + Send + Sync),
    run: &RunId,
) -> Result<(), String> {
    const WITHIN: Duration = Duration::from_secs(5);
    const AGAIN_AFTER: Duration = Duration::from_millis(10);
    let started = Instant::now();
    loop {
        match look(run) {
            Err(_) if started.elapsed() < WITHIN => tokio::time::sleep(AGAIN_AFTER).await,
            looked => return looked,
        }
    }
}

/// Runs suites with the command line of a libtest program; for the `main` of a test without a
/// harness.
pub fn run_suites(suites: Vec<Suite>) -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = suites.iter().flat_map(Suite::trials).collect();
    let names: Vec<&str> = suites.iter().map(|suite| suite.name.as_str()).collect();
    if let Some(unknown) = Required::from_environment().unknown(&names) {
        let words = format!("{REQUIRE} names {unknown:?}, and no backend is called so");
        trials.push(Trial::test("require", move || Err(words.into())));
    }
    if trials.is_empty() {
        trials.push(Trial::test("cases", || Err("the suite has no cases".into())));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
