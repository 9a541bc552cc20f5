//! A running transport: its programs run, and consumers can use it.

use std::time::Duration;

use propagation_core::comparison::{Skip, SkipKind, Transport};
use propagation_core::observation::Actor;
use propagation_core::protocol::measure::{Measured, Signalled, SpawnState, Spawned, Used, Work};
use propagation_core::protocol::transport::{Need, Program, Recipe};
use propagation_core::{Error, ErrorKind};

use crate::bench::{Bench, SHORTLY, producer};
use crate::options::Sizes;
use crate::recipe::{until, words};

/// How long a program may take until it is ready.
const READY: Duration = Duration::from_secs(10);

/// A transport that stands.
pub(crate) struct Stand<'a> {
    bench: &'a Bench,
    pub(crate) recipe: Recipe,
    pub(crate) ready_ms: f64,
}

impl<'a> Stand<'a> {
    /// Starts a transport; why it is left out where it cannot be. Its needs are looked at before the reason why its
    /// server cannot be reached.
    ///
    /// # Errors
    /// When the node fails.
    pub(crate) async fn start(
        bench: &'a Bench,
        recipe: Recipe,
        unreachable: Option<Skip>,
    ) -> Result<Result<Self, Skip>, Error> {
        for need in &recipe.needs {
            if let Some(skip) = missing(bench, recipe.transport, *need).await {
                return Ok(Err(skip));
            }
        }
        if let Some(skip) = unreachable {
            return Ok(Err(skip));
        }
        if let Some(prepare) = &recipe.prepare {
            let prepared = bench.run(&producer(recipe.transport), prepare, SHORTLY).await;
            if let Err(error) = prepared {
                return not_ready(error).map(Err);
            }
        }
        let mut stand = Self { bench, recipe, ready_ms: 0.0 };
        let programs: Vec<Program> = stand.recipe.programs().cloned().collect();
        for program in &programs {
            match stand.spawn(program).await? {
                Ok(spawned) => stand.ready_ms += ms(spawned.began_ns, spawned.known_ns),
                Err(skip) => {
                    stand.end().await?;
                    return Ok(Err(skip));
                }
            }
        }
        Ok(Ok(stand))
    }

    /// Starts one of its programs and waits until it is ready.
    ///
    /// # Errors
    /// When the node fails. That it does not get ready is a result.
    pub(crate) async fn spawn(&self, program: &Program) -> Result<Result<Spawned, Skip>, Error> {
        let limit = READY.as_millis().to_string();
        let mut arguments = words(&["spawn", "--tag", &program.tag, "--log", &program.log]);
        arguments.extend(words(&["--home", &program.home, "--deadline-ms", &limit]));
        arguments.extend(until(program));
        arguments.push("--".into());
        arguments.extend(program.command.iter().cloned());
        let actor = self.actor(program);
        let spawned: Spawned = self.bench.agent(&actor, &arguments, READY + SHORTLY).await?;
        let name = program.name();
        let (kind, reason) = match &spawned.state {
            SpawnState::Ready => return Ok(Ok(spawned)),
            SpawnState::NotStarted(why) => (SkipKind::NotReady, format!("{name}: {why}")),
            SpawnState::Ended(Some(127)) => (SkipKind::ProgramMissing, telling(&spawned.output)),
            SpawnState::Ended(code) => {
                let how = code.map_or("by a signal".into(), |code| format!("with {code}"));
                let said = telling(&spawned.output);
                (SkipKind::NotReady, format!("{name} ended {how} before it was ready: {said}"))
            }
            SpawnState::Late(what) => {
                let (limit, said) = (READY.as_secs(), telling(&spawned.output));
                (
                    SkipKind::NotReady,
                    format!("{name} was not ready in {limit} s: {what}; it said: {said}"),
                )
            }
        };
        let fix = Some("run its command by hand and read what it says".into());
        Ok(Err(Skip { kind, reason, fix }))
    }

    /// Kills one of its programs; `None` when it had ended before.
    ///
    /// # Errors
    /// When the node fails.
    pub(crate) async fn kill(&self, program: &Program) -> Result<Option<Signalled>, Error> {
        let kill = words(&["signal", &program.tag, "--signal", "KILL"]);
        let signalled: Signalled = self.bench.agent(&Actor::Node, &kill, SHORTLY).await?;
        Ok((signalled.processes > 0).then_some(signalled))
    }

    /// Who runs one of its programs.
    fn actor(&self, program: &Program) -> Actor {
        match program.on_node {
            true => Actor::Node,
            false => producer(self.recipe.transport),
        }
    }

    /// Unmounts what one of its programs has mounted, dead or not, where it was mounted, and so from everybody. Where
    /// that cannot be done, nothing new gets ready there.
    ///
    /// # Errors
    /// When the node fails.
    pub(crate) async fn unmount(&self, program: &Program) -> Result<(), Error> {
        let Some(mountpoint) = &program.mountpoint else { return Ok(()) };
        let unmount = words(&["unmount", mountpoint]);
        let actor = self.actor(program);
        forgiving(self.bench.agent::<u64>(&actor, &unmount, SHORTLY).await.map(drop))
    }

    /// Mounts it anew, so that nothing of it is in the kernel's caches or in its client's.
    ///
    /// # Errors
    /// When the node fails. Why it does not get ready again is a result.
    pub(crate) async fn remount(&self) -> Result<Result<(), Skip>, Error> {
        let Some(client) = &self.recipe.client else { return Ok(Ok(())) };
        self.unmount(client).await?;
        // One that saw its mount go has ended by itself.
        self.kill(client).await?;
        Ok(self.spawn(client).await?.map(drop))
    }

    /// Does a piece of work in its consumer.
    ///
    /// # Errors
    /// When the node fails.
    pub(crate) async fn measure(&self, sizes: Sizes, work: Work) -> Result<Measured, Error> {
        let transport = self.recipe.transport;
        match self.bench.measure(transport, &self.recipe.path, sizes, work).await {
            // Its own deadline should have ended it, and did not.
            Err(error) if error.kind() == ErrorKind::Timeout => {
                Ok(Measured { hung: true, ..Measured::default() })
            }
            measured => measured,
        }
    }

    /// What its programs have used.
    ///
    /// # Errors
    /// When the node fails.
    pub(crate) async fn account(&self) -> Result<Used, Error> {
        let tags: Vec<&str> = self.recipe.programs().map(|program| program.tag.as_str()).collect();
        match tags.as_slice() {
            [] => Ok(Used::default()),
            tags => self.bench.account(tags).await,
        }
    }

    /// Ends its programs. What does not end, the end of the node ends.
    ///
    /// # Errors
    /// When the node fails.
    pub(crate) async fn end(&self) -> Result<(), Error> {
        for program in self.recipe.programs().rev() {
            self.unmount(program).await?;
        }
        for program in self.recipe.programs() {
            forgiving(self.kill(program).await.map(drop))?;
        }
        Ok(())
    }
}

/// The first unmet need of a transport.
async fn missing(bench: &Bench, transport: Transport, need: Need) -> Option<Skip> {
    match need {
        Need::Program(name, package) => {
            let reason = match bench.has_program(transport, name).await {
                Ok(true) => return None,
                Ok(false) => format!("{name} is not installed"),
                Err(error) => format!("whether {name} is installed: {error}"),
            };
            let fix = match bench.is_real() {
                true => format!("install {package} on the node, or name an image that has it"),
                false => format!("apt-get install {package}"),
            };
            Some(Skip { kind: SkipKind::ProgramMissing, reason, fix: Some(fix) })
        }
        Need::Filesystem(name) => {
            let ask = words(&["filesystem", name]);
            let kernel = kernel_of(bench.real_node());
            let reason = match bench.agent(&Actor::Node, &ask, SHORTLY).await {
                Ok(true) => return None,
                Ok(false) => format!("{kernel} has no filesystem {name}"),
                Err(error) => format!("whether {kernel} has {name}: {error}"),
            };
            let fix = format!("use a kernel with {name}, or load its module");
            Some(Skip { kind: SkipKind::KernelLacks, reason, fix: Some(fix) })
        }
        Need::MachineRights if !bench.has_machine_rights() => Some(Skip {
            kind: SkipKind::NotPermitted,
            reason:
                "root of a user namespace may not do it, and the containers of this node are in one"
                    .into(),
            fix: Some("run as root with crun or runc installed".into()),
        }),
        // `open_by_handle_at(2)` reaches every file of a filesystem, whatever is mounted.
        Need::FilesByHandle if !bench.has_files_by_handle() => Some(Skip {
            kind: SkipKind::NotPermitted,
            reason: "nfs-ganesha opens files by their handles, and so may reach every file of the node; this is allowed \
                     only where the transport was asked for by its name"
                .into(),
            fix: Some(format!(
                "name {transport} among the transports; from Rust, set `files_by_handle` of the options"
            )),
        }),
        _ => None,
    }
}

/// The kernel that would mount: that of a real node is named after it.
fn kernel_of(node: Option<&str>) -> String {
    node.map_or_else(|| "this kernel".into(), |node| format!("the kernel of node {node}"))
}

/// That a preparation fails is a reason to leave the transport out; that the node does is an error.
fn not_ready(error: Error) -> Result<Skip, Error> {
    match error.kind() {
        ErrorKind::Environment | ErrorKind::Timeout => Ok(Skip {
            kind: SkipKind::NotReady,
            reason: error.to_string(),
            fix: error.fix().map(Into::into),
        }),
        _ => Err(error),
    }
}

/// That a program of the agent fails, or takes too long, is no failure of the node.
fn forgiving(result: Result<(), Error>) -> Result<(), Error> {
    result.or_else(|error| not_ready(error).map(drop))
}

/// What is worth showing of what a program printed: the first lines that speak of trouble, or the last ones.
fn telling(output: &str) -> String {
    const LINES: usize = 2;
    const TROUBLE: [&str; 7] =
        ["fail", "error", "denied", "refused", "not found", "no such", "cannot"];
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let speaks = |line: &&&str| {
        let lower = line.to_lowercase();
        TROUBLE.iter().any(|word| lower.contains(word))
    };
    let mut told: Vec<&str> = lines.iter().filter(speaks).take(LINES).copied().collect();
    if told.is_empty() {
        told = lines[lines.len().saturating_sub(LINES)..].to_vec();
    }
    match told.is_empty() {
        true => "nothing".into(),
        false => told.join("; "),
    }
}

/// Milliseconds from one moment to another.
pub(crate) fn ms(from_ns: u64, until_ns: u64) -> f64 {
    until_ns as f64 / 1e6 - from_ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_transport_does_not_end_is_left_to_the_node() {
        let failed = |kind| forgiving(Err(Error::new(kind, "unmount", "it does not answer")));
        assert!(failed(ErrorKind::Environment).is_ok() && failed(ErrorKind::Timeout).is_ok());
        assert!(failed(ErrorKind::Internal).is_err());
    }

    #[tokio::test]
    async fn files_are_opened_by_handle_only_where_this_was_asked_for() {
        for (is_real, asked) in [(true, true), (true, false), (false, true), (false, false)] {
            let bench = Bench::fake(is_real, asked).await;
            let skip = missing(&bench, Transport::Nfs, Need::FilesByHandle).await;
            assert_eq!(skip.is_none(), asked, "a real node: {is_real}; {skip:?}");
        }
    }

    #[test]
    fn of_much_that_is_printed_the_trouble_is_shown() {
        let output = "smbd started\n\nopen_socket_in failed: Permission denied\nPANIC\n #0 0x7f";
        assert_eq!(telling(output), "open_socket_in failed: Permission denied");
        assert_eq!(telling("a\nb\nc"), "b; c");
        assert_eq!(telling(""), "nothing");
    }

    #[test]
    fn the_kernel_of_a_real_node_is_named_after_it() {
        assert_eq!(kernel_of(None), "this kernel");
        assert_eq!(kernel_of(Some("k3s-w2")), "the kernel of node k3s-w2");
    }
}
