//! The connection to a host agent: requests out, answers and events in, made again when it breaks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use propagation_core::client::{Arrival, Clock, Connection, Programs, lock, read};
use propagation_core::host::{FromHost, HostCall, HostMessage, HostRequest, ToHost};
use propagation_core::program::ProgramState;
use propagation_core::protocol::{
    Call, Failure, MOST_LOOKS_AT_ONCE, PROTOCOL_VERSION, Reply, encode,
};
use propagation_core::{Error, ErrorKind, RunId};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::failure::AWAY_AT_MOST;
use crate::link::{Link, Stream};

/// The pause before a broken connection is made again.
const PAUSE: Duration = Duration::from_millis(200);

/// Time for an agent to answer after its pod runs.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

/// How long connecting and greeting may take: what connects has limits of its own below this.
const GREET_WITHIN: Duration = Duration::from_secs(30);

/// Time for an answer beyond the call itself: the agent's own deadline, and a connection that breaks
/// meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// How long a request may take to be written: the agent reads at all times.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// No programs yet; looks from a pod need its running program.
pub(crate) fn programs(started: Instant) -> Arc<Programs> {
    Arc::new(Programs::new(Clock::starting_at(started), false))
}

type Answered = Result<Reply, Failure>;

/// Requests without an answer, by number; why there can be none once the connection is given up.
type Waiting = Mutex<Result<BTreeMap<u64, (HostCall, oneshot::Sender<Answered>)>, String>>;

/// A host agent.
#[derive(Debug)]
pub(crate) struct Host {
    requests: mpsc::UnboundedSender<u64>,
    waiting: Arc<Waiting>,
    next_id: AtomicU64,
    given_up: CancellationToken,
    keeper: JoinHandle<()>,
}

impl Host {
    /// Connects, and greets.
    ///
    /// # Errors
    /// As [`Link::connect`]; [`ErrorKind::AgentVersion`] when the agent is another one; what the
    /// agent says when it cannot serve.
    pub(crate) async fn connect(
        link: Arc<dyn Link>,
        programs: Arc<Programs>,
    ) -> Result<Self, Error> {
        let operator = RunId::generate()?.to_string();
        let waiting = Arc::new(Mutex::new(Ok(BTreeMap::new())));
        let (agent, given_up) = (String::new(), CancellationToken::new());
        let end = given_up.clone();
        let mut keeper = Keeper { link, programs, operator, agent, received: 0, waiting, end };
        let (mut connection, agent) = keeper.greet_first().await?;
        keeper.agent = agent;
        let set = tokio::time::timeout(GREET_WITHIN, keeper.set_clock(&mut connection)).await;
        set.unwrap_or_else(|_| Err(gone("it does not tell its time")))?;
        let waiting = Arc::clone(&keeper.waiting);
        let (requests, queue) = mpsc::unbounded_channel();
        let keeper = tokio::spawn(keeper.keep(connection, queue));
        Ok(Self { requests, waiting, next_id: AtomicU64::new(1), given_up, keeper })
    }

    /// Asks, and waits for the answer. When the future is dropped the call may still be carried
    /// out; its answer is thrown away.
    ///
    /// # Errors
    /// [`ErrorKind::Disconnected`] when the connection is given up, [`ErrorKind::Timeout`] when no answer
    /// comes; what the agent says that it could not do.
    pub(crate) async fn ask(&self, call: HostCall) -> Result<Reply, Error> {
        Ok(self.answer(call).await??)
    }

    /// As [`Host::ask`], with what the agent could not do as its answer.
    async fn answer(&self, call: HostCall) -> Result<Answered, Error> {
        let (sender, receiver) = oneshot::channel();
        let within = allowed(&call);
        let id = {
            let mut waiting = lock(&self.waiting);
            let waiting = waiting.as_mut().map_err(|why| gone(why))?;
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            waiting.insert(id, (call, sender));
            id
        };
        self.requests.send(id).map_err(|_| self.gone())?;
        match tokio::time::timeout(within, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(self.gone()),
            Err(_) => {
                if let Ok(waiting) = lock(&self.waiting).as_mut() {
                    waiting.remove(&id);
                }
                let reason = format!("no answer in {} s", within.as_secs());
                Err(Error::new(ErrorKind::Timeout, "ask the host agent of the node", reason)
                    .with_fix("see whether the node is alive: kubectl get nodes"))
            }
        }
    }

    /// Waits until the connection is given up: nothing that is waited for will be told.
    pub(crate) async fn given_up(&self) -> Error {
        self.given_up.cancelled().await;
        self.gone()
    }

    /// Whether it can be asked.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.waiting).is_ok()
    }

    fn gone(&self) -> Error {
        match &*lock(&self.waiting) {
            Ok(_) => gone(CLOSED),
            Err(why) => gone(why),
        }
    }

    /// Sends no more requests.
    pub(crate) fn hang_up(&self) {
        self.keeper.abort();
        *lock(&self.waiting) = Err(CLOSED.into());
    }
}

#[async_trait]
impl Connection for Host {
    async fn call(&self, call: Call) -> Result<Result<Reply, Failure>, Error> {
        self.answer(HostCall::Node { call }).await
    }

    fn other_version(&self, detail: &str) -> Error {
        other_version(detail)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// What a reply that does not fit its request means.
fn unexpected(reply: &dyn std::fmt::Debug) -> Error {
    other_version(&format!("it answered {reply:?}"))
}

/// The reason for requests without an answer after that.
const CLOSED: &str = "the connection is closed";

fn gone(why: &str) -> Error {
    Error::new(ErrorKind::Disconnected, "talk to the host agent of the node", why).with_fix(
        "look at the node and at the host pod; clean up with `propagation clean --backend k8s`",
    )
}

/// How long the answer to a call may take.
fn allowed(call: &HostCall) -> Duration {
    let own_ms = match call {
        HostCall::Node { call: Call::Observe { looks, deadline_ms, .. } } => {
            let looks: u64 = looks.iter().map(|look| look.users.len() as u64).sum();
            deadline_ms.saturating_mul(looks.div_ceil(MOST_LOOKS_AT_ONCE as u64))
        }
        HostCall::Node {
            call: Call::Execute { deadline_ms, .. } | Call::Inject { deadline_ms, .. },
        } => *deadline_ms,
        _ => 0,
    };
    ANSWER_WITHIN.saturating_add(Duration::from_millis(own_ms))
}

fn other_version(detail: &str) -> Error {
    Error::new(ErrorKind::AgentVersion, "understand the host agent", detail)
        .with_fix("use the agent of the same release: leave out --image, or name a newer one")
}

/// The task that keeps the connection.
struct Keeper {
    link: Arc<dyn Link>,
    programs: Arc<Programs>,
    /// This very connection's name, so that its numbers are not taken for another's.
    operator: String,
    /// Which agent was greeted first: another one knows nothing of the run's programs.
    agent: String,
    received: u64,
    waiting: Arc<Waiting>,
    end: CancellationToken,
}

impl Keeper {
    /// Greets an agent that may just be starting: until it has put itself onto the node nothing is there that
    /// could be executed.
    async fn greet_first(&self) -> Result<(Stream, String), Error> {
        let began = Instant::now();
        loop {
            match self.greet().await {
                Err(error)
                    if error.kind() == ErrorKind::Disconnected
                        && began.elapsed() < STARTS_WITHIN =>
                {
                    tracing::debug!(%error, "greeted again");
                    tokio::time::sleep(PAUSE).await;
                }
                greeted => return greeted,
            }
        }
    }

    /// Connects and greets; the connection, and which agent it is to.
    async fn greet(&self) -> Result<(Stream, String), Error> {
        let greeted = tokio::time::timeout(GREET_WITHIN, self.greet_at_any_time()).await;
        greeted.unwrap_or_else(|_| {
            let reason = format!("no answer in {} s", GREET_WITHIN.as_secs());
            Err(Error::new(ErrorKind::Timeout, "greet the host agent", reason)
                .with_fix("see whether the node is alive: kubectl get nodes"))
        })
    }

    async fn greet_at_any_time(&self) -> Result<(Stream, String), Error> {
        let mut stream = self.link.connect().await?;
        let resume = ToHost::Resume { operator: self.operator.clone(), received: self.received };
        let hello = match write(&mut stream, &resume).await {
            Ok(()) => read(&mut stream.reader, other_version).await?,
            Err(_) => None,
        };
        match hello {
            Some(FromHost::Hello { protocol, started, .. }) if protocol == PROTOCOL_VERSION => {
                Ok((stream, started))
            }
            Some(FromHost::Hello { protocol, agent, .. }) => Err(other_version(&format!(
                "agent {agent} speaks protocol {protocol}, and this program {PROTOCOL_VERSION}"
            ))),
            Some(FromHost::CannotServe { failure }) => Err(failure.into()),
            Some(other) => Err(unexpected(&other)),
            None => {
                let words = (&mut stream.end).await.unwrap_or_default();
                let operation = "greet the host agent";
                Err(Error::new(ErrorKind::Disconnected, operation, words).with_fix(
                    "look at the log of the host pod, or at agent.log in the run's directory on \
                     the node",
                ))
            }
        }
    }

    /// Asks for the time there a few times.
    async fn set_clock(&self, stream: &mut Stream) -> Result<(), Error> {
        const READINGS: usize = 5;
        let clock = self.programs.clock();
        for _ in 0..READINGS {
            let asked_ns = clock.elapsed_ns();
            write(stream, &ToHost::Clock).await?;
            let now_ns = loop {
                match read(&mut stream.reader, other_version).await? {
                    Some(FromHost::Clock { now_ns }) => break now_ns,
                    // Of a run that is being cleaned: told to somebody else before.
                    Some(_) => {}
                    None => return Err(gone("it hung up")),
                }
            };
            clock.take(now_ns, asked_ns);
        }
        Ok(())
    }

    async fn keep(mut self, mut stream: Stream, mut queue: mpsc::UnboundedReceiver<u64>) {
        let given_up = loop {
            if let Err(error) = self.serve(&mut stream, &mut queue).await {
                break error;
            }
            tracing::debug!("the connection to the host agent broke");
            match self.greet_again().await {
                Ok(again) => stream = again,
                Err(error) => break error,
            }
            let again: Vec<u64> =
                lock(&self.waiting).iter().flat_map(BTreeMap::keys).copied().collect();
            for id in again {
                if self.send(&mut stream, id).await.is_err() {
                    break;
                }
            }
        };
        tracing::warn!(error = %given_up, "the connection to the host agent is given up");
        // Whoever waits learns that nothing more will come.
        *lock(&self.waiting) = Err(given_up.to_string());
        self.end.cancel();
    }

    /// Connects and greets until it succeeds or the time is over.
    async fn greet_again(&self) -> Result<Stream, Error> {
        let broken = Instant::now();
        loop {
            match self.greet().await {
                Ok((_, agent)) if agent != self.agent => {
                    let reason = "another host agent answers: the one before was ended, or the node \
                                  was started again";
                    return Err(Error::new(ErrorKind::Environment, "greet the host agent", reason));
                }
                Err(error)
                    if broken.elapsed() < AWAY_AT_MOST
                        && error.kind() != ErrorKind::AgentVersion =>
                {
                    tracing::debug!(%error, "connected again later");
                    tokio::time::sleep(PAUSE).await;
                }
                greeted => return greeted.map(|(stream, _)| stream),
            }
        }
    }

    /// Carries requests and messages until the connection breaks; an error when what comes makes no
    /// sense, which it would not after a reconnection either.
    async fn serve(
        &mut self,
        stream: &mut Stream,
        queue: &mut mpsc::UnboundedReceiver<u64>,
    ) -> Result<(), Error> {
        let (frames, mut incoming) = mpsc::channel(64);
        let mut reader = std::mem::replace(&mut stream.reader, Box::new(tokio::io::empty()));
        // Reading is not cancelled half-way through a frame: it has a task of its own.
        let reading = tokio::spawn(async move {
            while let Some(frame) = read(&mut reader, other_version).await.transpose() {
                let last = frame.is_err();
                if frames.send(frame).await.is_err() || last {
                    break;
                }
            }
        });
        let ended = loop {
            tokio::select! {
                frame = incoming.recv() => match frame {
                    Some(Ok(FromHost::Numbered { number, message })) => self.take(number, message),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                },
                request = queue.recv() => match request {
                    Some(id) if self.send(stream, id).await.is_ok() => {}
                    // Broken; or nobody can ask any more, and what is under way may still be told.
                    _ => break Ok(()),
                },
            }
        };
        reading.abort();
        ended
    }

    async fn send(&self, stream: &mut Stream, id: u64) -> Result<(), Error> {
        let call = {
            let waiting = lock(&self.waiting);
            waiting.as_ref().ok().and_then(|waiting| Some(waiting.get(&id)?.0.clone()))
        };
        let Some(call) = call else { return Ok(()) };
        let request = HostRequest { id, call };
        let request = ToHost::Request { request, received: self.received };
        let sent = tokio::time::timeout(SEND_WITHIN, write(stream, &request)).await;
        sent.unwrap_or_else(|_| Err(gone("it does not take requests")))
    }

    fn take(&mut self, number: u64, message: HostMessage) {
        if number <= self.received {
            return;
        }
        self.received = number;
        match message {
            HostMessage::Answer { id, result } => {
                let waiting =
                    lock(&self.waiting).as_mut().ok().and_then(|waiting| waiting.remove(&id));
                if let Some((_, sender)) = waiting {
                    // A caller that has gone does not want it.
                    let _ = sender.send(result);
                }
            }
            HostMessage::Arrived { program, process_ns, came_ns } => {
                let clock = self.programs.clock();
                let (process_us, came_us) = (clock.micros(process_ns), clock.micros(came_ns));
                self.programs.update(program.container, |reported| {
                    reported.arrived.insert(program.replica, Arrival { process_us, came_us });
                    reported.status.program = ProgramState::Running;
                });
            }
            HostMessage::Event { program, event } => {
                // Replicas but the first are mount views only.
                if program.replica == 0 {
                    self.programs.take(program.container, event);
                }
            }
        }
    }
}

async fn write(stream: &mut Stream, message: &ToHost) -> Result<(), Error> {
    let bytes = encode(message)
        .map_err(|error| Error::from_source(ErrorKind::Internal, "encode a message", error))?;
    let written = async {
        stream.writer.write_all(&bytes).await?;
        stream.writer.flush().await
    };
    written.await.map_err(|error: std::io::Error| gone(&error.to_string()).with_source(error))
}
