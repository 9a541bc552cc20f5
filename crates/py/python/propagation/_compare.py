"""Comparing transports between containers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from propagation import _native
from propagation._wait import finish, finish_async

if TYPE_CHECKING:
    from propagation._types import AnyBackend, TransportName, TransportWorkload


def compare(
    *,
    backend: AnyBackend = "local",
    transports: Iterable[TransportName] | None = None,
    workloads: Iterable[TransportWorkload] | None = None,
    quick: bool = False,
    rounds: int | None = None,
    seed: int = 1,
    producer_command: str | None = None,
) -> _native.Comparison:
    """Compare transports between containers of one node, also while their servers die.

    Args:
        backend: `local` is a simulated node on this machine's kernel, `k8s` a node of the
            kubeconfig's cluster; or a `K8sBackend`.
        transports: their names; `native` is always measured. When left out: `native`,
            `fuse`, `fuse-passthrough`, `daemon`, `smb-rclone` and `smb-cifs`; with `quick`
            `native`, `fuse` and `smb-rclone`. A list with `nfs` or `fuse-nfs` allows their
            server to open any file of the node by its handle (`open_by_handle_at(2)`).
        workloads: the workloads of each transport; all when left out, with `quick` `sequential`,
            `seek`, `scan`, `open` and `die`.
        quick: measure less, within ten seconds instead of sixty.
        rounds: number of rounds; below 5 no difference is reported.
        seed: seed of the order and of random positions.
        producer_command: of the transport `daemon`, with `{source}`, `{mountpoint}` and `{work}`.

    Transports that the node cannot carry are left out, with the reason in
    `Comparison.skipped`. Ctrl-C cancels; everything is removed before the exception goes on.

    Raises:
        InvalidInputError: a name is unknown, or a command is invalid.
        HostError: the machine cannot carry a node, or the cluster cannot be reached.
    """
    job = _job(backend, transports, workloads, quick, rounds, seed, producer_command)
    comparison: _native.Comparison = finish(job, None)
    return comparison


async def compare_async(
    *,
    backend: AnyBackend = "local",
    transports: Iterable[TransportName] | None = None,
    workloads: Iterable[TransportWorkload] | None = None,
    quick: bool = False,
    rounds: int | None = None,
    seed: int = 1,
    producer_command: str | None = None,
) -> _native.Comparison:
    """Compare transports as `compare` does, without blocking the event loop."""
    job = _job(backend, transports, workloads, quick, rounds, seed, producer_command)
    comparison: _native.Comparison = await finish_async(job, None)
    return comparison


def _job(
    backend: AnyBackend,
    transports: Iterable[TransportName] | None,
    workloads: Iterable[TransportWorkload] | None,
    quick: bool,
    rounds: int | None,
    seed: int,
    producer_command: str | None,
) -> _native.Job:
    return _native.compare_transports(
        backend=backend,
        transports=None if transports is None else list(transports),
        workloads=None if workloads is None else list(workloads),
        quick=quick,
        rounds=rounds,
        seed=seed,
        producer_command=producer_command,
    )
