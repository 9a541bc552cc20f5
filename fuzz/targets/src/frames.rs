//! Frames of the protocol, as every side of both agents reads them.

use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use propagation_core::client;
use propagation_core::host::{FromHost, HostCall, HostRequest, ProgramHello, ProgramId, ToHost};
use propagation_core::plan::{Fault, NodeSpec};
use propagation_core::protocol::{
    Call, Message, NodeSetup, PROTOCOL_VERSION, ProgramCommand, ProgramEvent, Received, Request,
    SimulatedCall, encode,
};
use propagation_core::{Error, ErrorKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Frames as a backend reads them from both agents, and as both agents read them from a socket. What is
/// read is written so that it is read the same again.
pub fn frames(bytes: &[u8]) {
    backend::<Message>(bytes);
    backend::<FromHost>(bytes);
    agent::<NodeSetup>(bytes);
    agent::<Request>(bytes);
    agent::<ToHost>(bytes);
    agent::<ProgramHello>(bytes);
    agent::<ProgramCommand>(bytes);
    agent::<ProgramEvent>(bytes);
}

fn backend<T: Received + DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let refuse = |reason: &str| Error::new(ErrorKind::Internal, "read a frame", reason);
    runtime.block_on(async {
        let mut reader = bytes;
        while let Ok(Some(value)) = client::read::<T>(&mut reader, refuse).await {
            expect_the_same_again(&value);
        }
    });
}

fn agent<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    /// What fits into the buffer of a socket that nobody reads yet.
    const MOST: usize = 64 * 1024;
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    theirs.write_all(&bytes[..bytes.len().min(MOST)]).expect("room in the socket");
    theirs.shutdown(Shutdown::Write).expect("closed");
    propagation_agent::read_frames::<T>(ours.into()).iter().for_each(expect_the_same_again);
}

fn expect_the_same_again<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(value: &T) {
    let written = encode(value).expect("what was read is written");
    let again: T = serde_json::from_slice(&written[4..]).expect("and read again");
    assert_eq!(&again, value);
}

/// One frame of every kind, alone and one after the other.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    fn frame(value: impl Serialize) -> Vec<u8> {
        encode(&value).expect("a value of the protocol is written")
    }
    let call = Call::Facts;
    let program = ProgramId { container: 1, replica: 2 };
    let hello = ProgramHello { program, secret: "s".into() };
    let request = HostRequest { id: 7, call: HostCall::Node { call: call.clone() } };
    let mut all = vec![
        frame(Message::Hello { protocol: PROTOCOL_VERSION, agent: "0".into(), mapped_uids: 1 }),
        frame(NodeSetup {
            run_id: "r".into(),
            spec: NodeSpec::default(),
            bridge: "/b".into(),
            mountpoint: "dfs".into(),
            files_by_handle: false,
        }),
        frame(Request { id: 7, call: SimulatedCall::Node { call } }),
        frame(hello),
        frame(ToHost::Resume { operator: "o".into(), received: 3 }),
        frame(ToHost::Request { request, received: 3 }),
        frame(FromHost::Hello { protocol: 1, agent: "0".into(), started: "1".into() }),
        frame(FromHost::Clock { now_ns: 5 }),
        frame(ProgramCommand::Obey { fault: Fault::slow(3) }),
        // One that carries descriptors, and one that says more than comes.
        vec![0; 4],
        vec![255, 0, 0, 0, b'{'],
    ];
    all.push(all.concat());
    all
}
