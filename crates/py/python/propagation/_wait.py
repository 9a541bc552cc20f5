"""Waiting for what goes on natively, with and without an event loop.

A native job has a socket that becomes readable when there is something to take. A blocking read of
it is what Python does anyway: it lets other threads run, and a signal ends it (Ctrl-C). An event
loop reads the same socket. So the threads of a run never need the interpreter.

Modules that take longer to load than this whole package are imported where they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    import socket

    from propagation import _native

_MANY = 4096
"""More bytes than are ever written before they are read."""

_SIGNALS_WITHIN = 0.5
"""Seconds. A signal that comes just before a blocking read does not end it."""


def bell_of(job: _native.Job, *, blocking: bool) -> socket.socket:
    """Give the socket of a job; it is the caller's to close."""
    import socket

    bell = socket.socket(fileno=job.descriptor())
    bell.settimeout(_SIGNALS_WITHIN if blocking else 0)
    return bell


def ring(bell: socket.socket) -> None:
    """Wait until there is something to take, or until signals have to be looked for."""
    import socket
    from contextlib import suppress

    with suppress(socket.timeout):
        bell.recv(_MANY)


async def ring_async(bell: socket.socket) -> None:
    """Wait until there is something to take, in an event loop."""
    import asyncio

    await asyncio.get_running_loop().sock_recv(bell, _MANY)


def finish(job: _native.Job, tell: Callable[[], None] | None) -> Any:
    """Wait for a job that gives nothing but its result, and return that.

    Before it returns, `tell` is called to pass on what the run has told meanwhile.
    """
    with bell_of(job, blocking=True) as bell:
        try:
            while not job.take()[1]:
                ring(bell)
        except BaseException:
            job.cancel()
            raise
    if tell is not None:
        tell()
    return job.result()


async def finish_async(job: _native.Job, tell: Callable[[], None] | None) -> Any:
    """Do the same in an event loop."""
    with bell_of(job, blocking=False) as bell:
        try:
            while not job.take()[1]:
                await ring_async(bell)
        except BaseException:
            job.cancel()
            raise
    if tell is not None:
        tell()
    return job.result()
