//! The programs in the containers of `--processes`: process 1 of a pid namespace, which reads the
//! marker when told to, and beside it a process that holds a descriptor.

use libc::{
    AF_UNIX, CLONE_NEWPID, O_DIRECT, O_RDONLY, SOCK_CLOEXEC, SOCK_SEQPACKET, c_int, c_void,
};

use crate::node::CONTAINER_MARKER;
use crate::sys::{
    Seen, Stack, die_with_parent, fail, look, new_stack, now_ns, open, read, read_marker, spawn,
    write,
};

/// Read the marker and answer.
const LOOK: u8 = 0;
/// Start the process that holds a descriptor.
const HOLD: u8 = 1;

/// A running program, told by a socket.
pub(crate) struct Program {
    channel: c_int,
    holder: c_int,
}

/// What a program is started with.
struct Order {
    channel: c_int,
    holder: c_int,
    holder_stack: Option<Stack>,
}

/// An answer: when, the errno or 0, nonce and generation.
type Answer = [u64; 4];

impl Program {
    /// Starts the program of the current container.
    pub(crate) fn start() -> Self {
        let ([channel, theirs], [holder, holders]) = (channel(), channel());
        // Never freed: the program looks at it when it comes to run.
        let order = Box::leak(Box::new(Order {
            channel: theirs,
            holder: holders,
            holder_stack: Some(new_stack()),
        }));
        spawn(consume, order, new_stack(), CLONE_NEWPID);
        // Only the program has these now, so its end is the end of the answers.
        sys!(close(theirs));
        sys!(close(holders));
        Self { channel, holder }
    }

    /// Lets the program read the marker: when it had, and what it saw.
    pub(crate) fn look(&self) -> (u64, Seen) {
        ask(self.channel, LOOK)
    }

    /// Lets the program start the process that holds a descriptor; returns when it does.
    pub(crate) fn hold(&self) {
        write(self.channel, &[HOLD]);
        answer(self.holder);
    }

    /// Lets that process read through its descriptor.
    pub(crate) fn read_held(&self) -> Seen {
        ask(self.holder, LOOK).1
    }
}

fn channel() -> [c_int; 2] {
    let mut ends = [0; 2];
    sys!(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.as_mut_ptr()));
    ends
}

fn ask(channel: c_int, command: u8) -> (u64, Seen) {
    write(channel, &[command]);
    let [at_ns, errno, nonce, generation] = answer(channel);
    (at_ns, if errno == 0 { Ok([nonce, generation]) } else { Err(errno as c_int) })
}

fn answer(channel: c_int) -> Answer {
    let mut answer = Answer::default();
    if read(channel, &mut answer) != size_of_val(&answer) as isize {
        fail("ask a program", "it has ended");
    }
    answer
}

fn tell(channel: c_int, seen: Seen) {
    let answer: Answer = match seen {
        Ok([nonce, generation]) => [now_ns(), 0, nonce, generation],
        Err(errno) => [now_ns(), errno as u64, 0, 0],
    };
    write(channel, &answer);
}

extern "C" fn consume(order: *mut c_void) -> c_int {
    // SAFETY: `start` passes this type, leaked, and never looks at it again.
    let order = unsafe { &mut *order.cast::<Order>() };
    die_with_parent();
    let mut command = [0u8];
    while read(order.channel, &mut command) == 1 {
        if command[0] == LOOK {
            tell(order.channel, look(CONTAINER_MARKER));
        } else if let Some(stack) = order.holder_stack.take() {
            spawn(hold, &mut order.holder, stack, 0);
        }
    }
    0
}

extern "C" fn hold(channel: *mut c_void) -> c_int {
    // SAFETY: `consume` passes this type, which is leaked, and does not change it.
    let channel = unsafe { *channel.cast::<c_int>() };
    let file = open(CONTAINER_MARKER, O_RDONLY | O_DIRECT);
    tell(channel, read_marker(file));
    while read(channel, &mut [0u8]) == 1 {
        tell(channel, read_marker(file));
    }
    0
}
