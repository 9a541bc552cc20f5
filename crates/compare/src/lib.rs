//! Which transport between containers is faster, what it costs, and what happens when its server dies.
//!
//! Transports are measured on one node, each between a producer's container and a consumer's, in rounds: in
//! every round each is visited once, in random order, so that a slow moment of the machine affects all of them.
//! The native transport is visited twice in each round; the difference between the two visits is chance.
//!
//! 1. [`Options`]: what to compare. [`compare`] does it.
//! 2. `recipe`: how each transport is made; `stand`: its programs in its producer's container.
//! 3. `visit`: the agent's work in its consumer; `death`: the same while its server dies.
//! 4. [`statistics`]: medians of the figures, and intervals of their ratios.

mod bench;
mod death;
mod options;
mod recipe;
mod stand;
pub mod statistics;
mod visit;

use std::cmp::Reverse;
use std::time::Instant;

use futures_util::future::BoxFuture;
use propagation_core::comparison::{
    Comparison, Measure, Metric, Ratio, SCHEMA_VERSION, Skip, Transport, TransportResult, Versus,
    Workload,
};
use propagation_core::report::Cleanup;
use propagation_core::{Backend, Error, ErrorKind};
use tokio_util::sync::CancellationToken;

use bench::Bench;
pub use options::Options;
use options::Sizes;
use stand::Stand;
use visit::Account;

/// Progress of a comparison.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A transport runs, or is left out.
    Started(Transport, Option<&'a Skip>),
    /// A round begins.
    Round(u32, u32),
    /// Servers are being killed.
    Dying,
}

/// What "cold" means.
const COLD: &str = "the transport was mounted anew before the scan: its client and the kernel had nothing \
                    of it; servers go on, and the native transport has nothing to drop";

/// Compares transports on a node of a backend, and ends the node. When `cancellation` fires, returns the figures
/// measured until then, marked as cut short.
///
/// # Errors
/// [`propagation_core::ErrorKind::InvalidInput`] for invalid options; the errors of [`Backend::open`] and of the
/// node; [`ErrorKind::Cancelled`] before there is a node. A transport that is unavailable or fails is a result.
///
/// ```no_run
/// # #[cfg(target_os = "linux")]
/// # async fn example() -> Result<(), propagation_core::Error> {
/// use propagation_backend_local::LocalBackend;
/// use propagation_compare::{Options, compare};
/// use tokio_util::sync::CancellationToken;
///
/// let never = CancellationToken::new();
/// let measured = compare(&Options::quick(), &LocalBackend::new(), &never, &|_| ()).await?;
/// println!("{} transports in {} rounds", measured.transports.len(), measured.rounds);
/// # Ok(()) }
/// ```
pub fn compare<'a>(
    options: &'a Options,
    backend: &'a dyn Backend,
    cancellation: &'a CancellationToken,
    tell: &'a (dyn Fn(Progress<'_>) + Send + Sync),
) -> BoxFuture<'a, Result<Comparison, Error>> {
    Box::pin(measure(options, backend, cancellation, tell))
}

async fn measure(
    options: &Options,
    backend: &dyn Backend,
    cancellation: &CancellationToken,
    tell: &(dyn Fn(Progress<'_>) + Send + Sync),
) -> Result<Comparison, Error> {
    options.validate()?;
    let (began, started_at) = (Instant::now(), jiff::Timestamp::now().to_string());
    let mut transports = options.transports.clone();
    transports.push(Transport::Native);
    transports.sort_unstable();
    transports.dedup();
    let bench = tokio::select! {
        bench = Bench::open(backend, options, &transports) => bench?,
        () = cancellation.cancelled() => {
            return Err(Error::new(ErrorKind::Cancelled, "compare transports", "it was cancelled"));
        }
    };
    let mut found = Found::default();
    let work = found.fill(&bench, options, &transports, tell);
    let ended = tokio::select! {
        ended = work => ended,
        () = cancellation.cancelled() => {
            found.cut_short = true;
            Ok(())
        }
    };
    if found.cut_short || ended.is_err() {
        bench.unmount_clients(&transports).await;
    }
    let machine = bench.machine().await;
    let cleanup = bench.close().await;
    ended.map_err(|error| with_what_is_left(error, &cleanup))?;
    let sizes = options.sizes();
    let mut comparison = Comparison {
        schema_version: SCHEMA_VERSION,
        tool_version: env!("CARGO_PKG_VERSION").into(),
        run_id: bench.run_id.to_string(),
        started_at,
        duration_ms: began.elapsed().as_secs_f64() * 1e3,
        seed: options.seed,
        rounds: sizes.rounds,
        quick: options.quick,
        cut_short: found.cut_short,
        machine: machine?,
        data_set: bench::data_set(sizes),
        cold: COLD.into(),
        transports: Vec::new(),
        noise: Vec::new(),
        decision: Vec::new(),
        cleanup,
    };
    found.into_results(options.seed, &mut comparison);
    Ok(comparison)
}

/// An error, and what could not be removed after it.
fn with_what_is_left(error: Error, cleanup: &Cleanup) -> Error {
    if cleanup.could_not.is_empty() {
        return error;
    }
    let left = format!("something is left: {}", cleanup.could_not.join("; "));
    let fix = error.fix().map_or_else(|| left.clone(), |fix| format!("{fix}; {left}"));
    error.with_fix(fix)
}

/// What has been found so far.
#[derive(Default)]
struct Found {
    results: Vec<TransportResult>,
    /// Beside each result.
    accounts: Vec<Account>,
    /// Of the native transport's second visits.
    control: Account,
    cut_short: bool,
}

/// The purpose of a visit.
#[derive(Debug, Clone, Copy)]
enum Visit {
    Transport(usize),
    Control(usize),
}

impl Found {
    async fn fill(
        &mut self,
        bench: &Bench,
        options: &Options,
        transports: &[Transport],
        tell: &(dyn Fn(Progress<'_>) + Send + Sync),
    ) -> Result<(), Error> {
        let sizes = bench.sizes(options);
        let _containers = bench.furnish(sizes).await?;
        let mut stands = Vec::new();
        for transport in transports {
            let (server, unreachable) = match bench.address(*transport).await? {
                Ok(server) => (server, None),
                Err(skip) => (None, Some(skip)),
            };
            let ask = bench.ask(options, server);
            let recipe = recipe::recipe(*transport, ask);
            let how = recipe::how(&recipe, ask.bridge);
            let started = Stand::start(bench, recipe, unreachable).await?;
            tell(Progress::Started(*transport, started.as_ref().err()));
            let (stand, skipped) = match started {
                Ok(stand) => (Some(stand), None),
                Err(skip) => (None, Some(skip)),
            };
            self.results.push(TransportResult {
                transport: *transport,
                how,
                skipped,
                ready_ms: stand.as_ref().map(|stand| stand.ready_ms),
                measures: Vec::new(),
                death: None,
            });
            self.accounts.push(Account::default());
            stands.push(stand);
        }
        self.measure(&stands, options, sizes, tell).await?;
        if options.workloads.contains(&Workload::Die) {
            tell(Progress::Dying);
            self.kill(&stands, sizes, options.seed).await?;
        }
        for stand in stands.iter().flatten() {
            stand.end().await?;
        }
        Ok(())
    }

    /// Visits every transport once in every round, in an order drawn anew.
    async fn measure(
        &mut self,
        stands: &[Option<Stand<'_>>],
        options: &Options,
        sizes: Sizes,
        tell: &(dyn Fn(Progress<'_>) + Send + Sync),
    ) -> Result<(), Error> {
        let mut random = fastrand::Rng::with_seed(options.seed);
        let indices = stands.iter().enumerate().filter(|(_, stand)| stand.is_some());
        let mut visits: Vec<Visit> = indices.map(|(index, _)| Visit::Transport(index)).collect();
        let native = self.results.iter().position(|one| one.transport == Transport::Native);
        visits.extend(native.map(Visit::Control));
        for round in 0..sizes.rounds {
            tell(Progress::Round(round + 1, sizes.rounds));
            random.shuffle(&mut visits);
            // The same places for all.
            let seed = random.u64(..);
            for visit in &visits {
                let (index, account) = match *visit {
                    Visit::Transport(index) => (index, &mut self.accounts[index]),
                    Visit::Control(index) => (index, &mut self.control),
                };
                let Some(stand) = &stands[index] else { continue };
                visit::visit(stand, &options.workloads, sizes, seed, account).await?;
            }
        }
        Ok(())
    }

    /// Kills the servers of all transports at the same time: the measured times are longer than the disturbance
    /// by one another.
    async fn kill(
        &mut self,
        stands: &[Option<Stand<'_>>],
        sizes: Sizes,
        seed: u64,
    ) -> Result<(), Error> {
        let dying = stands.iter().flatten().map(|stand| death::die(stand, sizes, seed));
        let mut deaths = futures_util::future::join_all(dying).await.into_iter();
        let measured = self.results.iter_mut().filter(|result| result.skipped.is_none());
        for result in measured {
            result.death = deaths.next().transpose()?.flatten();
        }
        Ok(())
    }

    fn into_results(self, seed: u64, comparison: &mut Comparison) {
        let control = self.control.finish();
        let accounts = self.accounts.into_iter().map(Account::finish);
        for (mut result, measures) in self.results.into_iter().zip(accounts) {
            result.measures = measures;
            comparison.transports.push(result);
        }
        let natives = comparison.transport(Transport::Native);
        let natives = natives.map(|native| native.measures.clone()).unwrap_or_default();
        for result in &mut comparison.transports {
            if result.transport == Transport::Native {
                continue;
            }
            for measure in &mut result.measures {
                let native = natives.iter().find(|native| native.metric == measure.metric);
                measure.against_native = native.and_then(|native| ratio(measure, native, seed));
            }
        }
        comparison.noise =
            versus((Transport::Native, &control), (Transport::Native, &natives), seed);
        // The kernel's client is the one that a FUSE daemon in front of SMB has to beat.
        let smb = comparison
            .measured()
            .filter(|one| one.transport.is_smb())
            .max_by_key(|one| (one.transport.is_mounted_by_the_kernel(), Reverse(one.transport)));
        if let Some(smb) = smb {
            let fuse = comparison.measured().filter(|one| one.transport.is_fuse());
            comparison.decision = fuse
                .flat_map(|fuse| {
                    versus((fuse.transport, &fuse.measures), (smb.transport, &smb.measures), seed)
                })
                .collect();
        }
    }
}

/// Every metric of one against the same of another.
fn versus(
    (transport, measures): (Transport, &[Measure]),
    (against, others): (Transport, &[Measure]),
    seed: u64,
) -> Vec<Versus> {
    let of = |metric: Metric| {
        let one = measures.iter().find(|measure| measure.metric == metric)?;
        let other = others.iter().find(|measure| measure.metric == metric)?;
        let ratio = ratio(one, other, seed)?;
        Some(Versus { transport, against, metric, ratio })
    };
    Metric::ALL.into_iter().filter_map(of).collect()
}

fn ratio(one: &Measure, other: &Measure, seed: u64) -> Option<Ratio> {
    statistics::ratio(&one.samples, &other.samples, one.metric.more_is_better(), seed)
}
