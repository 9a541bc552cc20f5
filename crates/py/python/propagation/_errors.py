"""The exceptions of the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Optional

if TYPE_CHECKING:
    from propagation._native import Report

_Parts = tuple[str, str, Optional[str]]


class Error(Exception):
    """An operation of the tool that failed.

    What a runtime refuses, what a consumer reads, a hang: these are results and are in the report.
    An `Error` means that the tool could not do its own work.

    Attributes:
        kind: the kind of failure, as reports and the command line name it.
        operation: what was attempted.
        reason: why it did not work.
        fix: what to do about it, if known.
    """

    kind: ClassVar[str] = "internal"

    def __init__(self, operation: str, reason: str, fix: str | None = None) -> None:
        super().__init__(operation, reason, fix)
        self.operation = operation
        self.reason = reason
        self.fix = fix
        if isinstance(self, OSError):
            # `OSError` takes its arguments for an errno, a text and a file name.
            for name, value in (("errno", None), ("strerror", reason), ("filename", None)):
                setattr(self, name, value)

    def __str__(self) -> str:
        text = f"{self.operation}: {self.reason}"
        return f"{text}\n  fix: {self.fix}" if self.fix else text


class InvalidInputError(Error, ValueError):
    """The input is invalid: a bad path, an impossible scenario."""

    kind = "invalid_input"


class UnsupportedError(Error):
    """The backend does not have the requested capability."""

    kind = "unsupported"


class HostError(Error, OSError):
    """The machine or the cluster refuses or lacks something: a device, a permission, room."""

    kind = "environment"


class AgentVersionError(Error):
    """The agent in the node speaks another version of the protocol."""

    kind = "agent_version"


class DeadlineError(Error, TimeoutError):
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
    """The container runtime refused to start a workload by hand: a result, not a failure.

    Attributes:
        text: the runtime's own words.
        errno: the name of the underlying errno, if any.
    """

    kind = "refused"

    def __init__(self, text: str, errno: str | None = None) -> None:
        super().__init__("start the workload", text)
        self.args = (text, errno)
        self.text = text
        self.errno = errno


class OutcomeError(Exception):
    """A run did not have an accepted outcome: raised by `Report.raise_for_outcome`.

    Attributes:
        report: the report of the run.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        lines = [f"{self.report.outcome}: {self.report.verdict.summary}"]
        for cause in self.report.causes[:1]:
            lines.append(f"  cause: {cause.title}")
            lines.append(f"  fix: {cause.fix.command or cause.fix.words}")
        return "\n".join(lines)


_OUTCOMES = (
    "full_success",
    "partial_success",
    "fundamental_failure",
    "as_expected",
    "otherwise",
    "skipped",
    "inconclusive",
)


def _raise_for_outcome(report: Report, accepted: tuple[str, ...]) -> None:
    """Raise unless the outcome is one of `accepted`, or a success where none is given."""
    for word in accepted:
        if word not in _OUTCOMES:
            raise InvalidInputError(
                f"accept {word!r}", "unknown outcome", f"use one of {', '.join(_OUTCOMES)}"
            )
    if not (report.outcome in accepted if accepted else report.ok):
        raise OutcomeError(report)


_KINDS: dict[str, type[Error]] = {
    cls.kind: cls
    for cls in (
        InvalidInputError,
        UnsupportedError,
        HostError,
        AgentVersionError,
        DeadlineError,
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
