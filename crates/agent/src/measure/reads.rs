//! Reading the long file: at once, at a rate, at random places.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use propagation_protocol::measure::Measured;

use super::Numbers;
use super::meter::{Meter, pause_until};
use crate::sys::now_ns;

/// How much is read at a time, in bytes: what copying programs use.
pub(super) const CHUNK_BYTES: usize = 128 * 1024;

/// What is read in so much time is enough for a rate.
const ENOUGH_NS: u64 = 400_000_000;

/// How much is read at a random place, in bytes.
const SEEK_BYTES: usize = 64 * 1024;

/// Reads from the beginning, `bytes` at the most, or what takes [`ENOUGH_NS`]. The time begins with the first read, as fio's does: how long
/// opening takes is measured by itself.
pub(super) fn sequential(path: &Path, bytes: u64) -> Measured {
    let mut meter = Meter::begin();
    let Some((file, length)) = opened(path, &mut meter) else { return meter.finish() };
    let end = length.min(bytes);
    let mut buffer = Buffer::new(CHUNK_BYTES);
    let chunk = buffer.bytes();
    meter = Meter::begin();
    let mut offset = 0;
    while offset < end && meter.elapsed_ns() < ENOUGH_NS {
        let wanted = usize::try_from(end - offset).map_or(CHUNK_BYTES, |n| n.min(CHUNK_BYTES));
        let read = || file.read_at(&mut chunk[..wanted], offset).and_then(not_at_end);
        match meter.operation(read) {
            Some(length) => {
                meter.first_byte();
                offset += length;
            }
            None => break,
        }
    }
    meter.finish()
}

/// Reads at a rate. A player that has to wait goes on from there: it does not catch up.
pub(super) fn play(path: &Path, bytes_per_s: u64, duration_ms: u64) -> Measured {
    let mut meter = Meter::begin();
    let Some((file, end)) = opened(path, &mut meter) else { return meter.finish() };
    let mut buffer = Buffer::new(CHUNK_BYTES);
    let chunk = buffer.bytes();
    let interval_ns = CHUNK_BYTES as u64 * 1_000_000_000 / bytes_per_s.max(1);
    let (mut offset, mut due_ns) = (0, now_ns());
    while meter.elapsed_ns() < duration_ms * 1_000_000 {
        pause_until(due_ns);
        let read = || file.read_at(chunk, offset).and_then(not_at_end);
        let Some(length) = meter.operation(read) else { break };
        let first = meter.measured.first_byte_ns == 0;
        meter.first_byte();
        offset = if offset + length >= end { 0 } else { offset + length };
        let now = now_ns();
        // What was read at its time plays until the next is due; the first byte is waited for anyway.
        due_ns = if first { now } else { due_ns } + interval_ns;
        if now > due_ns {
            meter.measured.stalls += 1;
            due_ns = now;
        }
    }
    meter.finish()
}

/// Reads at random places.
pub(super) fn seek(path: &Path, operations: u64, seed: u64) -> Measured {
    let mut meter = Meter::begin();
    let Some((file, length)) = opened(path, &mut meter) else { return meter.finish() };
    let blocks = length / SEEK_BYTES as u64;
    let mut numbers = Numbers(seed);
    let mut buffer = Buffer::new(SEEK_BYTES);
    let block = buffer.bytes();
    for _ in 0..operations {
        let offset = numbers.below(blocks) * SEEK_BYTES as u64;
        let read = || file.read_exact_at(block, offset).map(|()| SEEK_BYTES as u64);
        if meter.operation(read).is_none() {
            break;
        }
    }
    meter.finish()
}

/// Memory to read into that begins with a page, as programs have it that read much: the kernel copies slower to
/// anywhere else.
struct Buffer {
    memory: Vec<u8>,
    length: usize,
}

impl Buffer {
    const PAGE_BYTES: usize = 4096;

    fn new(length: usize) -> Self {
        // Written, so that no read pays for making it.
        Self { memory: vec![1; length + Self::PAGE_BYTES], length }
    }

    fn bytes(&mut self) -> &mut [u8] {
        let start = self.memory.as_ptr().align_offset(Self::PAGE_BYTES) % Self::PAGE_BYTES;
        &mut self.memory[start..start + self.length]
    }
}

/// The file and its length.
fn opened(path: &Path, meter: &mut Meter) -> Option<(File, u64)> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    opened.inspect_err(|error| meter.failed(error)).map(|(length, file)| (file, length)).ok()
}

/// A read that gives nothing before the end of the file is a failure.
fn not_at_end(length: usize) -> std::io::Result<u64> {
    match length {
        0 => Err(nix::errno::Errno::ENODATA.into()),
        length => Ok(length as u64),
    }
}
