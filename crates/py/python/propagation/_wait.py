"""Waiting for what goes on natively, with and without an event loop.

A native job has a socket that becomes readable when there is something to take. A blocking read of
it is what Python does anyway: it lets other threads run, and a signal ends it (Ctrl-C). An event
loop reads the same socket. So the threads of a run never need the interpreter.
"""

from __future__ import annotations

import socket
from typing import Any, Callable

from propagation import _native

_Take = Callable[[], object]


def finish(job: _native.Job, take_others: _Take | None = None) -> Any:
    """Wait for a job that gives nothing but its result, and return that."""
    with socket.socket(fileno=job.descriptor()) as bell:
        try:
            while not job.take()[1]:
                bell.recv(1)
        except BaseException:
            job.cancel()
            raise
    if take_others is not None:
        take_others()
    return job.result()


async def finish_async(job: _native.Job, take_others: _Take | None = None) -> Any:
    """Do the same in an event loop."""
    import asyncio

    with socket.socket(fileno=job.descriptor()) as bell:
        bell.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            while not job.take()[1]:
                await loop.sock_recv(bell, 1)
        except BaseException:
            job.cancel()
            raise
    if take_others is not None:
        take_others()
    return job.result()
