//! Frames between the agent's own processes, with descriptors beside them.
#![allow(unsafe_code)] // descriptors that come in a message or by accept4 are numbers

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, accept4,
    recvmsg, sendmsg, setsockopt, socketpair, sockopt::SendTimeout,
};
use nix::sys::time::TimeVal;
use propagation_protocol::{encode, frame_length};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How much is read at a time.
const CHUNK_BYTES: usize = 4096;

/// Maximum of chunks that are read at once: more than a socket holds, and a peer that never stops sending does
/// not block everything else.
const CHUNKS_AT_ONCE: usize = 64;

/// Time that a peer may leave sent data unread.
const SENDS_WITHIN: TimeVal = TimeVal::new(5, 0);

/// The longest frame of a stranger, in bytes: more than a greeting needs.
const STRANGERS_FRAME_BYTES: usize = 4096;

/// The most descriptors that one message can carry (`SCM_MAX_FD` of the kernel).
const DESCRIPTORS_PER_MESSAGE: usize = 253;

/// One end of a stream of frames.
#[derive(Debug)]
pub(crate) struct Pipe {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// How much of the buffer has been taken.
    taken: usize,
    descriptors: VecDeque<OwnedFd>,
    /// Whether descriptors that come are kept: strangers give none.
    takes_descriptors: bool,
    /// The longest frame that is taken, in bytes.
    longest: usize,
    closed: bool,
}

impl Pipe {
    /// Two connected ends.
    ///
    /// # Errors
    /// `EMFILE` at the limit of open descriptors.
    pub(crate) fn pair() -> Result<(Self, Self), Errno> {
        let (a, b) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self::new(a), Self::new(b)))
    }

    /// Frames over an existing stream socket.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            buffer: Vec::new(),
            taken: 0,
            descriptors: VecDeque::new(),
            takes_descriptors: true,
            longest: usize::MAX,
            closed: false,
        }
    }

    /// Makes this the only descriptor of the process beside the standard ones: for a forked process that
    /// lives long, so that it keeps nothing alive that it was born with.
    ///
    /// # Errors
    /// `EMFILE` at the limit of open descriptors.
    ///
    /// # Safety
    /// Nothing else that owns a descriptor is used or dropped any more in this process.
    pub(crate) unsafe fn alone(self) -> Result<Self, Errno> {
        // SAFETY: the caller's word.
        let [own] = unsafe { crate::sys::keep_only([self.socket.as_fd()]) }?;
        std::mem::forget(self);
        Ok(Self::new(own))
    }

    /// The socket itself, for another process; what has been read and not taken is lost.
    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Takes a connection from a listening socket; none when it has been given up meanwhile. The
    /// peer may be any process: descriptors that it sends are closed, its frames are short until it is
    /// [trusted](Self::trusted), and a peer that does not read is waited for no longer than
    /// [`SENDS_WITHIN`].
    ///
    /// # Errors
    /// `EMFILE` at the limit of open descriptors.
    pub(crate) fn accept(listener: &OwnedFd) -> Result<Option<Self>, Errno> {
        match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            Ok(number) => {
                // SAFETY: accept4 has just made this descriptor.
                let socket = unsafe { own(number) };
                setsockopt(&socket, SendTimeout, &SENDS_WITHIN)?;
                let longest = STRANGERS_FRAME_BYTES;
                Ok(Some(Self { takes_descriptors: false, longest, ..Self::new(socket) }))
            }
            Err(Errno::EINTR | Errno::EAGAIN | Errno::ECONNABORTED) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Frames may be of any length from now on: the sender is identified.
    pub(crate) fn trusted(self) -> Self {
        Self { longest: usize::MAX, ..self }
    }

    /// Descriptors that come are kept from now on.
    pub(crate) fn take_descriptors(&mut self) {
        self.takes_descriptors = true;
    }

    /// Sends one value.
    ///
    /// # Errors
    /// `EPIPE` when the other end is gone.
    pub(crate) fn send<T: Serialize>(&self, value: &T) -> Result<(), Errno> {
        let frame = encode(value).map_err(|_| Errno::EMSGSIZE)?;
        self.send_bytes(&frame)
    }

    fn send_bytes(&self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            match sendmsg::<()>(
                self.socket.as_raw_fd(),
                &[IoSlice::new(bytes)],
                &[],
                MsgFlags::MSG_NOSIGNAL,
                None,
            ) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Sends descriptors; the receiver gets them in order from [`Pipe::take_descriptor`].
    ///
    /// # Errors
    /// `EPIPE` when the other end is gone, `ETOOMANYREFS` when too many are on their way.
    pub(crate) fn send_descriptors(&self, descriptors: &[OwnedFd]) -> Result<(), Errno> {
        for chunk in descriptors.chunks(DESCRIPTORS_PER_MESSAGE) {
            let numbers: Vec<RawFd> = chunk.iter().map(AsRawFd::as_raw_fd).collect();
            // An empty frame carries them: a stream needs at least one byte.
            let frame = [0; 4];
            sendmsg::<()>(
                self.socket.as_raw_fd(),
                &[IoSlice::new(&frame)],
                &[ControlMessage::ScmRights(&numbers)],
                MsgFlags::MSG_NOSIGNAL,
                None,
            )?;
        }
        Ok(())
    }

    /// Reads what is there, or a good part of it, waiting for something when `wait`. Returns `false` when the other end
    /// has closed and everything has been read.
    ///
    /// # Errors
    /// As recvmsg(2), but for an interrupted or empty read.
    pub(crate) fn fill(&mut self, wait: bool) -> Result<bool, Errno> {
        for turn in 0..CHUNKS_AT_ONCE {
            // What does not fit is not read: it will not be taken.
            if self.buffer.len() > self.longest || self.fill_once(wait && turn == 0)? < CHUNK_BYTES
            {
                break;
            }
        }
        Ok(!self.closed)
    }

    /// Reads one chunk; returns how much came.
    fn fill_once(&mut self, wait: bool) -> Result<usize, Errno> {
        // On the stack and small: every page that is written after a fork is a fault.
        let mut chunk = [0; CHUNK_BYTES];
        let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS_PER_MESSAGE]);
        let mut flags = MsgFlags::MSG_CMSG_CLOEXEC;
        if !wait {
            flags |= MsgFlags::MSG_DONTWAIT;
        }
        let mut slices = [IoSliceMut::new(&mut chunk)];
        let message =
            match recvmsg::<()>(self.socket.as_raw_fd(), &mut slices, Some(&mut space), flags) {
                Ok(message) => message,
                Err(Errno::EINTR | Errno::EAGAIN) => return Ok(0),
                Err(Errno::ECONNRESET) => {
                    self.closed = true;
                    return Ok(0);
                }
                Err(errno) => return Err(errno),
            };
        let mut received = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                received.extend(numbers);
            }
        }
        let bytes = message.bytes;
        // SAFETY: the kernel has just installed these descriptors, and recvmsg reports each once.
        let received = received.into_iter().map(|number| unsafe { own(number) });
        if self.takes_descriptors {
            self.descriptors.extend(received);
        } else {
            received.for_each(drop);
        }
        self.buffer.extend_from_slice(&chunk[..bytes]);
        self.closed = bytes == 0;
        Ok(bytes)
    }

    /// The next whole value that has been read.
    ///
    /// # Errors
    /// `EBADMSG` for a frame that is not what was expected, or too long.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Errno> {
        while let Some(header) = self.buffer[self.taken..].first_chunk::<4>() {
            let length = frame_length(*header).map_err(|_| Errno::EBADMSG)?;
            if length > self.longest {
                return Err(Errno::EBADMSG);
            }
            let start = self.taken + 4;
            let Some(body) = self.buffer.get(start..start + length) else { break };
            let value = (length > 0).then(|| serde_json::from_slice(body));
            self.taken = start + length;
            if let Some(value) = value {
                return value.map(Some).map_err(|_| Errno::EBADMSG);
            }
        }
        self.buffer.drain(..self.taken);
        self.taken = 0;
        Ok(None)
    }

    /// Waits for the next value; `None` when the other end has closed.
    ///
    /// # Errors
    /// As [`Pipe::fill`] and [`Pipe::next`].
    pub(crate) fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Errno> {
        loop {
            if let Some(value) = self.next()? {
                return Ok(Some(value));
            }
            if !self.fill(true)? {
                return Ok(None);
            }
        }
    }

    /// The next descriptor that has been received.
    pub(crate) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    /// Whether something was read and not taken yet.
    pub(crate) fn has_more(&self) -> bool {
        self.taken < self.buffer.len()
    }

    /// Whether the other end has closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads frames as every part of the agent does, until the other end closes or sends something else: for
/// fuzzing.
pub fn read_frames<T: DeserializeOwned>(socket: OwnedFd) -> Vec<T> {
    let mut pipe = Pipe::new(socket);
    std::iter::from_fn(|| pipe.receive().ok().flatten()).collect()
}

/// Owns a descriptor by its number.
///
/// # Safety
/// It is open, and nothing else owns it.
unsafe fn own(number: RawFd) -> OwnedFd {
    // SAFETY: the caller's word.
    unsafe { OwnedFd::from_raw_fd(number) }
}
