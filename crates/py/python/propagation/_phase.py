"""Phases that are written in Python."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Protocol, Union, runtime_checkable

if TYPE_CHECKING:
    from propagation._node import AsyncNode, Node

FIVE_PHASES = ("host_setup", "producer", "consumer", "stale_mount", "recovery")
"""The ids of the built-in phases, in order."""


@runtime_checkable
class Phase(Protocol):
    """A phase of one's own.

    It acts through the node that it is given and records a check for everything it finds; it fails
    when one of its checks failed. An `Error` that it raises is in the report as the reason why the
    phase could not be carried out; anything else that it raises cancels the run, which cleans up,
    and is raised from there.
    """

    @property
    def id(self) -> str:
        """Its name in reports, unique in the run."""

    @property
    def requires(self) -> Sequence[str]:
        """The ids of the phases that must have passed before; otherwise it is skipped."""

    def run(self, node: Node) -> None:
        """Carry it out. In the thread that runs, or in one beside it under `run_async`."""


@runtime_checkable
class AsyncPhase(Protocol):
    """A phase of one's own for `run_async`; otherwise as `Phase`."""

    @property
    def id(self) -> str:
        """Its name in reports, unique in the run."""

    @property
    def requires(self) -> Sequence[str]:
        """The ids of the phases that must have passed before; otherwise it is skipped."""

    def run(self, node: AsyncNode) -> Awaitable[None]:
        """Carry it out, in the event loop that runs."""


AnyPhase = Union[str, Phase, AsyncPhase]
