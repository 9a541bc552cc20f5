//! The connection to the agent that is the node: requests out, answers and events in.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use propagation_core::client::operator::this_process;
use propagation_core::client::{Connection, Programs, lock, read};
use propagation_core::program::Refused;
use propagation_core::protocol::{
    Call, Failure, Message, NodeSetup, PROTOCOL_VERSION, Reply, Request, SimulatedCall, encode,
};
use propagation_core::{Error, ErrorKind};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

type Waiting = Mutex<Option<HashMap<u64, oneshot::Sender<Result<Reply, Failure>>>>>;

/// A running agent.
#[derive(Debug)]
pub(crate) struct Agent {
    /// Frames on their way to the task that writes them: a call that is dropped half-way must not
    /// leave half a frame on the socket.
    frames: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<Waiting>,
    next_id: AtomicU64,
    /// Closes the socket at once, even if a half of it is still held.
    socket: StdStream,
    process: Mutex<Option<Child>>,
    pid: u32,
}

/// What the agent says when its node stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hello {
    pub(crate) mapped_uids: u64,
}

impl Agent {
    /// Starts an agent, lets it make itself a node, and waits until it stands.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] with the agent's own words when the machine does not allow it.
    pub(crate) async fn start(
        setup: &NodeSetup,
        keep: bool,
        programs: Arc<Programs>,
    ) -> Result<(Self, Hello), Error> {
        let failed = |error: io::Error| {
            Error::from_source(ErrorKind::Environment, "start the agent", error).with_fix(
                "allow more processes (ulimit -u, pids.max) and more open descriptors (ulimit -n); \
                 memfd_create(2), /proc and execution from memory are needed too",
            )
        };
        let (ours, theirs) = StdStream::pair().map_err(failed)?;
        let process = propagation_agent_embed::command()
            .map_err(failed)?
            .args(["node", "--run-id", &setup.run_id, "--parent", &this_process()])
            .args(keep.then_some("--keep"))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // A node that outlives the caller must not hold its standard error open.
            .stderr(if keep { Stdio::null() } else { Stdio::inherit() })
            .spawn()
            .map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let socket = ours.try_clone().map_err(failed)?;
        let (reader, writer) = UnixStream::from_std(ours).map_err(failed)?.into_split();
        let waiting: Arc<Waiting> = Arc::new(Mutex::new(Some(HashMap::new())));
        let pid = process.id();
        let (frames, queue) = mpsc::unbounded_channel();
        tokio::spawn(write_all(writer, queue));
        let agent = Self {
            frames,
            waiting: Arc::clone(&waiting),
            next_id: AtomicU64::new(0),
            socket,
            process: Mutex::new(Some(process)),
            pid,
        };
        agent.send(setup)?;
        let mut reader = BufReader::with_capacity(64 * 1024, reader);
        let hello = greet(&mut reader).await?;
        tokio::spawn(read_all(reader, waiting, programs));
        Ok((agent, hello))
    }

    /// The agent's process id: the one that waits outside the node.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    fn send<T: serde::Serialize>(&self, value: &T) -> Result<(), Error> {
        let frame = encode(value)
            .map_err(|error| Error::from_source(ErrorKind::Internal, "encode a request", error))?;
        self.frames.send(frame).map_err(|_| disconnected())
    }

    /// Closes the socket, on which the agent ends, and with it everything in the node.
    pub(crate) fn close_socket(&self) {
        // Fails only when it is closed already.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }

    /// The process, to be waited for. Only the first caller gets it.
    pub(crate) fn take_process(&self) -> Option<Child> {
        lock(&self.process).take()
    }
}

impl Agent {
    /// Sends a call and waits for its answer, or for the failure that the agent reports. When the future is dropped
    /// the call may still be carried out; its answer is discarded.
    ///
    /// # Errors
    /// [`ErrorKind::Disconnected`] when the agent has gone.
    pub(crate) async fn answer(
        &self,
        call: SimulatedCall,
    ) -> Result<Result<Reply, Failure>, Error> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        match lock(&self.waiting).as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(disconnected()),
        };
        self.send(&Request { id, call })?;
        match receiver.await {
            Ok(answer) => Ok(answer),
            Err(_) => Err(disconnected()),
        }
    }

    /// Sends a call that kernel, runtime or daemon may refuse, and waits for its answer.
    ///
    /// # Errors
    /// As [`Agent::answer`]; what the agent could not do.
    pub(crate) async fn ask(&self, call: SimulatedCall) -> Result<Result<Reply, Refused>, Error> {
        match self.answer(call).await? {
            Ok(reply) => Ok(Ok(reply)),
            Err(failure) => Ok(Err(failure.refused()?)),
        }
    }
}

#[async_trait]
impl Connection for Agent {
    async fn call(&self, call: Call) -> Result<Result<Reply, Failure>, Error> {
        self.answer(SimulatedCall::Node { call }).await
    }

    fn other_version(&self, detail: &str) -> Error {
        other_version(detail)
    }
}

impl Drop for Agent {
    /// Best effort, for a node that was not closed: the agent ends because its socket closes, and
    /// a thread waits for it so that no zombie stays.
    fn drop(&mut self) {
        self.close_socket();
        if let Some(mut process) = self.take_process() {
            // Without a thread the zombie goes when this process does.
            let _ = std::thread::Builder::new()
                .name("propagation-reap".into())
                .spawn(move || process.wait());
        }
    }
}

fn disconnected() -> Error {
    Error::new(
        ErrorKind::Disconnected,
        "talk to the simulated node",
        "its process has ended unexpectedly",
    )
    .with_fix("look for an out-of-memory kill (dmesg); clean up with `propagation clean`")
}

fn other_version(detail: &str) -> Error {
    Error::new(ErrorKind::AgentVersion, "understand the agent", detail)
        .with_fix("use the agent of the same release: rebuild, and unset PROPAGATION_AGENT_BINARY")
}

async fn greet(reader: &mut BufReader<OwnedReadHalf>) -> Result<Hello, Error> {
    match read(reader, other_version).await? {
        Some(Message::Hello { protocol, mapped_uids, .. }) if protocol == PROTOCOL_VERSION => {
            Ok(Hello { mapped_uids })
        }
        Some(Message::Hello { protocol, agent, .. }) => Err(other_version(&format!(
            "agent {agent} speaks protocol {protocol}, and this program {PROTOCOL_VERSION}"
        ))),
        Some(Message::CannotServe { failure }) => Err(failure.into()),
        Some(_) => Err(other_version("it does not begin with a greeting")),
        None => Err(disconnected()),
    }
}

async fn write_all(mut writer: OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        if writer.write_all(&frame).await.is_err() {
            // The agent has gone; whoever waits for an answer learns it from the reading side.
            return;
        }
    }
}

async fn read_all(
    mut reader: BufReader<OwnedReadHalf>,
    waiting: Arc<Waiting>,
    programs: Arc<Programs>,
) {
    loop {
        match read(&mut reader, other_version).await {
            Ok(Some(Message::Answer { id, result })) => {
                let sender = lock(&waiting).as_mut().and_then(|waiting| waiting.remove(&id));
                if let Some(sender) = sender {
                    // A caller that has gone does not want it.
                    let _ = sender.send(result);
                }
            }
            Ok(Some(Message::Event { container, event })) => programs.take(container, event),
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, "the agent sent something that is not a message");
                break;
            }
        }
    }
    // Whoever still waits learns that nothing more will come.
    lock(&waiting).take();
    programs.end_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`greet`] makes of a first frame.
    async fn greeted_with(frame: &[u8]) -> Result<Hello, Error> {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let (reader, _writer) = ours.into_split();
        let (_reader, mut writer) = theirs.into_split();
        writer.write_all(frame).await.expect("room in the socket");
        drop(writer);
        greet(&mut BufReader::new(reader)).await
    }

    fn hello(protocol: u32) -> Vec<u8> {
        encode(&Message::Hello { protocol, agent: "9.9.9".into(), mapped_uids: 1 })
            .expect("a frame")
    }

    #[tokio::test]
    async fn an_agent_of_another_version_is_refused() {
        assert!(greeted_with(&hello(PROTOCOL_VERSION)).await.is_ok());
        let error = greeted_with(&hello(PROTOCOL_VERSION + 1)).await.expect_err("another version");
        assert_eq!(error.kind(), ErrorKind::AgentVersion);
        let words = format!("agent 9.9.9 speaks protocol {}", PROTOCOL_VERSION + 1);
        assert!(error.reason().contains(&words), "{error}");
        assert!(error.fix().is_some());
    }

    #[tokio::test]
    async fn something_else_than_an_agent_is_refused() {
        for frame in [&b"\xff\xff\xff\xff"[..], b"\x02\0\0\0{}", b"\x05\0\0\0hello"] {
            let error = greeted_with(frame).await.expect_err("not a message");
            assert_eq!(error.kind(), ErrorKind::AgentVersion, "{error}");
        }
        let error = greeted_with(b"").await.expect_err("nothing");
        assert_eq!(error.kind(), ErrorKind::Disconnected);
    }

    #[tokio::test]
    async fn a_node_that_cannot_be_made_says_why() {
        let failure = Failure {
            kind: ErrorKind::Environment,
            operation: "make a user namespace".into(),
            reason: "No space left on device (ENOSPC)".into(),
            fix: Some("raise user.max_user_namespaces".into()),
            refusal: None,
        };
        let frame = encode(&Message::CannotServe { failure }).expect("a frame");
        let error = greeted_with(&frame).await.expect_err("it cannot serve");
        assert_eq!(error.kind(), ErrorKind::Environment);
        assert_eq!(error.fix(), Some("raise user.max_user_namespaces"));
    }
}
