"""The exceptions of the package."""

from __future__ import annotations

import builtins
from typing import ClassVar, Optional

_Parts = tuple[str, str, Optional[str]]


class Error(Exception):
    """An operation of the tool that failed.

    What a runtime refuses, what a consumer reads, a hang: these are results and are in the report.
    An `Error` means that the tool could not do its own work.

    Attributes:
        kind: the kind of failure, as reports and the command line name it.
        operation: what was attempted.
        reason: why it did not work.
        fix: what to do about it, where that is known.
    """

    kind: ClassVar[str] = "internal"

    def __init__(self, operation: str, reason: str, fix: str | None = None) -> None:
        super().__init__(operation, reason, fix)
        self.operation = operation
        self.reason = reason
        self.fix = fix

    def __str__(self) -> str:
        text = f"{self.operation}: {self.reason}"
        return f"{text}\n  fix: {self.fix}" if self.fix else text


class InvalidInputError(Error, ValueError):
    """The caller asked for something that cannot be: a bad path, an impossible scenario."""

    kind = "invalid_input"


class UnsupportedError(Error):
    """The backend does not have the capability that was asked of it."""

    kind = "unsupported"


class EnvironmentError(Error):  # noqa: A001 - the name of the core's kind
    """The machine lacks something: a device, a kernel call, a permission, room."""

    kind = "environment"


class AgentVersionError(Error):
    """The agent in the node speaks another version of the protocol."""

    kind = "agent_version"


class TimeoutError(Error, builtins.TimeoutError):  # noqa: A001 - the name of the core's kind
    """A deadline passed."""

    kind = "timeout"


class CancelledError(Error):
    """The run was cancelled."""

    kind = "cancelled"


class DisconnectedError(Error, ConnectionError):
    """The agent or the node went away."""

    kind = "disconnected"


class InternalError(Error):
    """A bug, or a state that should not be possible."""

    kind = "internal"


class StartRefusedError(Error):
    """The container runtime refused to start a workload: a result, for who starts one by hand.

    Attributes:
        text: the runtime's own words.
        errno: the name of the errno under it, where there is one.
    """

    kind = "refused"

    def __init__(self, text: str, errno: str | None = None) -> None:
        super().__init__("start the workload", text)
        self.args = (text, errno)
        self.text = text
        self.errno = errno


_KINDS: dict[str, type[Error]] = {
    cls.kind: cls
    for cls in (
        InvalidInputError,
        UnsupportedError,
        EnvironmentError,
        AgentVersionError,
        TimeoutError,
        CancelledError,
        DisconnectedError,
        InternalError,
    )
}


def _of_kind(kind: str, operation: str, reason: str, fix: str | None) -> Error:
    """Make the exception for an error of the core."""
    return _KINDS.get(kind, InternalError)(operation, reason, fix)


def _parts_of(error: Error) -> tuple[str, str, str, str | None]:
    """Give an exception in the core's parts: kind, operation, reason, fix."""
    kind = error.kind if error.kind in _KINDS else "environment"
    return kind, error.operation, error.reason, error.fix
