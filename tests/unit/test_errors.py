"""The one shape of every error."""

from __future__ import annotations

import json
import pickle

import pytest

from tideline import errors
from tideline.errors import GapError, TidelineError, UsageError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TidelineError)]


def test_an_error_has_one_shape_and_travels_between_processes() -> None:
    error = UsageError("UNKNOWN_VIEW", view="x", known=["v"])
    assert error.to_json() == {
        "error": {
            "condition": "UNKNOWN_VIEW",
            "message": "there is no view x",
            "hint": "views that can be asked: ['v']",
            "params": {"view": "x", "known": ["v"]},
        }
    }
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.to_json(), str(again)) == (UsageError, error.to_json(), str(error))


def test_a_condition_without_a_text_spells_its_params() -> None:
    assert str(UsageError("BAD_WINDOW", window=7, expected="a multiple of 10")) == (
        "bad window: window 7, expected a multiple of 10"
    )


def test_a_message_of_the_callers_own_is_taken_as_it_is() -> None:
    error = UsageError("BAD_FILE", "cannot read {this}", "try another", path="x")
    assert str(error) == "cannot read {this}. try another"


def test_params_of_any_kind_become_json() -> None:
    error = TidelineError("X", path=GapError, names={"b", "a"}, pair=(1, None), table={1: 2.5})
    assert json.loads(json.dumps(error.to_json()))["error"]["params"] == {
        "path": str(GapError),
        "names": ["a", "b"],
        "pair": [1, None],
        "table": {"1": 2.5},
    }


def test_exit_codes_tell_no_from_wrong_use_from_faults_outside() -> None:
    codes = {kind.__name__: kind.exit_code for kind in KINDS}
    assert codes["NegativeAnswer"] == 1
    assert codes["UsageError"] == codes["DefinitionError"] == 2
    assert codes["OutsideError"] == codes["StoreError"] == codes["ProtocolError"] == codes["GapError"] == 3


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_text_comes_with_a_hint(kind: type[TidelineError]) -> None:
    assert all(message and hint for message, hint in kind.texts.values())
