"""Exceptions: one for each kind of error of the core."""

from __future__ import annotations

import builtins
import pickle

import pytest

import propagation
from propagation import _errors

KINDS = {
    "invalid_input": (propagation.InvalidInputError, ValueError),
    "unsupported": (propagation.UnsupportedError, Exception),
    "environment": (propagation.EnvironmentError, Exception),
    "agent_version": (propagation.AgentVersionError, Exception),
    "timeout": (propagation.TimeoutError, builtins.TimeoutError),
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
    for error in (propagation.EnvironmentError("do", "cannot", "help"), refused):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.__dict__ == error.__dict__


def test_without_a_fix_there_is_none() -> None:
    assert str(propagation.InternalError("think", "too hard")) == "think: too hard"
