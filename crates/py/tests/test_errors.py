"""Exceptions: one for each kind of error of the core."""

from __future__ import annotations

import builtins
import errno
import pickle

import pytest

import propagation
from propagation import _errors

KINDS = {
    "invalid_input": (propagation.InvalidInputError, ValueError),
    "unsupported": (propagation.UnsupportedError, Exception),
    "environment": (propagation.HostError, OSError),
    "agent_version": (propagation.AgentVersionError, Exception),
    "timeout": (propagation.DeadlineError, TimeoutError),
    "cancelled": (propagation.CancelledError, Exception),
    "disconnected": (propagation.DisconnectedError, ConnectionError),
    "internal": (propagation.InternalError, Exception),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_class(kind: str) -> None:
    error = _errors._of_kind(kind, "open a door", "it is locked", "knock")
    own, builtin = KINDS[kind]
    assert type(error) is own
    assert own.kind == kind
    assert isinstance(error, propagation.Error)
    assert isinstance(error, builtin)
    assert (error.operation, error.reason, error.fix) == ("open a door", "it is locked", "knock")
    assert str(error) == "open a door: it is locked\n  fix: knock"
    assert _errors._parts_of(error) == (kind, "open a door", "it is locked", "knock")


def test_all_kinds_of_the_core_are_there() -> None:
    assert set(KINDS) == set(_errors._KINDS)
    known = set(propagation._native.error_kinds())
    assert known == set(KINDS)


def test_they_can_be_pickled() -> None:
    refused = propagation.StartRefusedError("not shared", "EINVAL")
    parts = ("do", "cannot", "help")
    for error in (*(own(*parts) for own, _ in KINDS.values()), refused):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.__dict__ == error.__dict__


def test_without_a_fix_there_is_none() -> None:
    assert str(propagation.InternalError("think", "too hard")) == "think: too hard"


def test_no_name_hides_a_builtin() -> None:
    hidden = {name for name in propagation.__all__ if not name.startswith("__")} & set(
        vars(builtins)
    )
    assert not hidden


def test_an_os_error_of_the_package_has_no_errno_made_of_words() -> None:
    error = propagation.HostError("open a door", "it is locked", "knock")
    assert error.errno is None
    assert error.errno != errno.ENOENT
    assert (error.strerror, error.filename) == ("it is locked", None)
