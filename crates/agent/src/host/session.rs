//! The connection to the backend: it may break and be made again; nothing is lost or done twice.

use std::collections::{HashSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};

use propagation_protocol::host::{FromHost, HostMessage, HostRequest, ToHost};
use propagation_protocol::{Failure, PROTOCOL_VERSION, Reply};

use crate::pipe::Pipe;
use crate::sys::now_ns;

/// The side of the host agent.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Which agent this is.
    started: String,
    current: Option<Pipe>,
    /// The operator of the run.
    operator: String,
    /// Connections that have not sent their first frame.
    incoming: Vec<Pipe>,
    /// Messages that are not known to have come.
    unconfirmed: VecDeque<(u64, HostMessage)>,
    last_number: u64,
    /// Numbers of the requests that have been taken.
    taken: HashSet<u64>,
}

impl Session {
    /// Of the agent that is called so.
    pub(super) fn of(started: String) -> Self {
        Self { started, ..Self::default() }
    }

    pub(super) fn accept(&mut self, pipe: Pipe) {
        self.incoming.push(pipe);
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.current.iter().chain(&self.incoming).map(AsFd::as_fd)
    }

    /// Sends a message, now or after the next connection.
    pub(super) fn send(&mut self, message: HostMessage) {
        self.last_number += 1;
        self.unconfirmed.push_back((self.last_number, message.clone()));
        let frame = FromHost::Numbered { number: self.last_number, message };
        if self.current.as_ref().is_some_and(|pipe| pipe.send(&frame).is_err()) {
            self.current = None;
        }
    }

    pub(super) fn answer(&mut self, id: u64, result: Result<Reply, Failure>) {
        self.send(HostMessage::Answer { id, result });
    }

    /// Requests that have come and are new.
    pub(super) fn requests(&mut self) -> Vec<HostRequest> {
        self.greet();
        let mut requests = Vec::new();
        let Some(pipe) = &mut self.current else { return requests };
        let open = pipe.fill(false).unwrap_or(false);
        let mut heard = true;
        while let Ok(Some(frame)) = pipe.next::<ToHost>() {
            match frame {
                ToHost::Clock => {
                    heard = pipe.send(&FromHost::Clock { now_ns: now_ns() }).is_ok();
                }
                ToHost::Request { request, received } => {
                    self.unconfirmed.retain(|(number, _)| *number > received);
                    if self.taken.insert(request.id) {
                        requests.push(request);
                    }
                }
                ToHost::Resume { .. } => {}
            }
        }
        if !open || !heard {
            self.current = None;
        }
        requests
    }

    /// Takes over a connection that has said what it has received; the last one counts.
    fn greet(&mut self) {
        for mut pipe in std::mem::take(&mut self.incoming) {
            let open = pipe.fill(false).unwrap_or(false);
            match pipe.next::<ToHost>() {
                Ok(Some(ToHost::Resume { operator, received })) => {
                    self.resume(pipe.trusted(), operator, received);
                }
                Ok(None) if open => self.incoming.push(pipe),
                _ => {}
            }
        }
    }

    fn resume(&mut self, pipe: Pipe, operator: String, received: u64) {
        if operator != self.operator {
            // Its requests have numbers of their own.
            self.unconfirmed.clear();
            self.taken.clear();
            self.operator = operator;
        }
        self.unconfirmed.retain(|(number, _)| *number > received);
        let hello = FromHost::Hello {
            protocol: PROTOCOL_VERSION,
            agent: env!("CARGO_PKG_VERSION").into(),
            started: self.started.clone(),
        };
        let again = self.unconfirmed.iter().map(|(number, message)| FromHost::Numbered {
            number: *number,
            message: message.clone(),
        });
        let sent = std::iter::once(hello).chain(again).all(|frame| pipe.send(&frame).is_ok());
        self.current = sent.then_some(pipe);
    }
}

#[cfg(test)]
mod tests {
    use propagation_protocol::host::{HostCall, HostRequest};

    use super::*;

    fn connect(session: &mut Session, operator: &str, received: u64) -> Pipe {
        let (ours, theirs) = Pipe::pair().expect("a socket pair");
        session.accept(theirs);
        let operator = operator.into();
        ours.send(&ToHost::Resume { operator, received }).expect("room in the socket");
        ours
    }

    fn done(id: u64) -> Result<Reply, Failure> {
        let undone = vec![format!("answer {id}")];
        Ok(Reply::Cleaned { undone, could_not: Vec::new() })
    }

    fn numbers(pipe: &mut Pipe) -> Vec<u64> {
        let mut numbers = Vec::new();
        let _ = pipe.fill(false);
        while let Ok(Some(frame)) = pipe.next::<FromHost>() {
            if let FromHost::Numbered { number, .. } = frame {
                numbers.push(number);
            }
        }
        numbers
    }

    #[test]
    fn what_has_not_come_is_sent_again() {
        let mut session = Session::default();
        let mut first = connect(&mut session, "one", 0);
        session.requests();
        session.answer(1, done(1));
        session.answer(2, done(2));
        assert_eq!(numbers(&mut first), [1, 2]);
        drop(first);
        session.answer(3, done(3));
        let mut second = connect(&mut session, "one", 1);
        session.requests();
        assert_eq!(numbers(&mut second), [2, 3]);
    }

    #[test]
    fn a_request_that_is_sent_again_is_taken_once() {
        let mut session = Session::default();
        let request =
            ToHost::Request { request: HostRequest { id: 7, call: HostCall::End }, received: 0 };
        let first = connect(&mut session, "one", 0);
        first.send(&request).expect("room");
        // The greeting and the request may come in one piece or in two.
        assert_eq!(session.requests().len() + session.requests().len(), 1);
        let second = connect(&mut session, "one", 0);
        session.requests();
        second.send(&request).expect("room");
        assert!(session.requests().is_empty());
        // Somebody else numbers requests from the start.
        let third = connect(&mut session, "two", 0);
        session.requests();
        third.send(&request).expect("room");
        assert_eq!(session.requests().len(), 1);
    }
}
