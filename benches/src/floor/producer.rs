//! The producer: a process that mounts and answers the FUSE protocol by hand.

use std::io::Write;

use libc::{ENOENT, ENOSYS, O_RDWR, c_int, c_void, pid_t};

use crate::sys::{
    Marker, die_with_parent, fail, mount, new_stack, now_ns, open, pipe, read, spawn, write,
};

/// Starts a producer in the current container, with `flags` of clone(2). Returns when its mount is
/// there, with the time when it was.
pub(crate) fn start_producer(marker: Marker, flags: c_int) -> (pid_t, u64) {
    let [from_child, to_parent] = pipe();
    let mut order = (marker, to_parent);
    let child = spawn(produce, &mut order, new_stack(), flags);
    sys!(close(to_parent));
    let mut mounted_at = [0u64];
    if read(from_child, &mut mounted_at) != 8 {
        fail("start the producer", "it ended before its mount was there");
    }
    sys!(close(from_child));
    (child, mounted_at[0])
}

extern "C" fn produce(order: *mut c_void) -> c_int {
    // SAFETY: `start_producer` passes this type and keeps it until the mount is reported.
    let (marker, to_parent) = unsafe { *order.cast::<(Marker, c_int)>() };
    die_with_parent();
    let fuse = open(c"/dev/fuse", O_RDWR);
    let mut data = [0u8; 80];
    let fixed = "rootmode=40000,user_id=0,group_id=0,allow_other";
    if write!(&mut data[..], "fd={fuse},{fixed}\0").is_err() {
        fail("mount fuse", "the options do not fit");
    }
    mount(c"floor", c"/mnt/dfs", c"fuse", 0, data.as_ptr().cast());
    write(to_parent, &[now_ns()]);
    serve(fuse, marker)
}

/// Answers the FUSE protocol (`linux/fuse.h`, little-endian) until killed: a root, inode 1, with
/// one file, inode 2. Replies are built of 64-bit words, two fields in a word where they are short.
fn serve(fuse: c_int, marker: Marker) -> ! {
    const LOOKUP: u32 = 1;
    const FORGET: u32 = 2;
    const GETATTR: u32 = 3;
    const READ: u32 = 15;
    const STATFS: u32 = 17;
    const INIT: u32 = 26;
    const INTERRUPT: u32 = 36;
    const BATCH_FORGET: u32 = 42;
    // Names and attributes stay valid for an hour: longer than any run.
    const ROOT: [u64; 13] = [3600, 0, 1, 0, 0, 0, 0, 0, 0, 0o040_755 << 32, 2, 0, 4096];
    const FILE: [u64; 13] = [3600, 0, 2, 16, 1, 0, 0, 0, 0, 0o100_444 << 32, 1, 0, 4096];
    let mut entry = [2, 0, 3600, 3600, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    entry[5..].copy_from_slice(&FILE[2..]);
    let mut request = [0u8; 8192]; // FUSE_MIN_READ_BUFFER
    loop {
        let length = sys!(read(fuse, request.as_mut_ptr().cast(), request.len())) as usize;
        let word = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap_or([0; 8]));
        let (opcode, unique, inode, offset) = ((word(0) >> 32) as u32, word(8), word(16), word(48));
        let (errno, body): (c_int, &[u64]) = match opcode {
            INIT => (0, &[31 << 32 | 7, 0, 4096 << 32, 0, 0, 0, 0, 0]), // 7.31, max_write 4096
            LOOKUP if inode == 1 && &request[40..length] == b"producer-marker.txt\0" => (0, &entry),
            LOOKUP => (ENOENT, &[]),
            GETATTR => (0, if inode == 1 { &ROOT } else { &FILE }),
            READ => (0, if offset == 0 { &marker } else { &[] }),
            STATFS => (0, &[0; 10]),
            FORGET | BATCH_FORGET | INTERRUPT => continue, // need no answer
            _ => (ENOSYS, &[]),
        };
        let mut reply = [0u64; 18];
        reply[0] = u64::from(-errno as u32) << 32 | (16 + size_of_val(body) as u64);
        reply[1] = unique;
        reply[2..2 + body.len()].copy_from_slice(body);
        write(fuse, &reply[..2 + body.len()]);
    }
}
