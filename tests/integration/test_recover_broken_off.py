"""Recoveries that are broken off, on the real parts, and what else is at work then."""

from __future__ import annotations

import pytest
from cases import make_events
from faults import Crash, crash_at, do_at
from installed import Installed

from batch_layer.recover import recover
from tideline.errors import FenceError, ProtocolError
from tideline.oracle import verify


def archive_ahead(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version, and a batch run that dies once the master holds more."""
    installed.apply_few()
    installed.send(make_events(40, 1))
    installed.batch()
    with installed.speed():
        installed.send(make_events(30, 2, 40))
        installed.wait_committed()
    with monkeypatch.context() as patch:
        crash_at(patch, "archive.done")
        with pytest.raises(Crash):
            installed.batch()
    installed.new_batch_layer()


def recover_up_to(installed: Installed, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    with monkeypatch.context() as patch:
        crash_at(patch, point)
        with pytest.raises(Crash):
            recover(installed.store, installed.engine)


def recover_beside_a_batch_run(installed: Installed, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """The next batch run has read a range when a recovery comes, and dies at a point."""
    archive_ahead(installed, monkeypatch)
    installed.send(make_events(30, 3, 70))

    def recover_first() -> None:
        monkeypatch.undo()
        recover_up_to(installed, monkeypatch, point)

    do_at(monkeypatch, "archive.write", recover_first)


def goes_on(installed: Installed) -> None:
    """A batch run comes to the log's end, and everything is right."""
    installed.batch()
    assert installed.ledger.committed == installed.log_end
    assert installed.wrong() == []
    assert verify(installed.home, bootstrap=installed.bootstrap).ok


@pytest.mark.parametrize("point", ["archive.fence", "recover"])
def test_repeats_of_what_a_recovery_took_back_are_found_by_the_speed_layer(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """The ledger says that the master holds them, and for a while it does not."""
    archive_ahead(installed, monkeypatch)
    recover_up_to(installed, monkeypatch, point)
    with installed.speed():
        installed.send([*make_events(30, 2, 40), *make_events(10, 3, 70)])
        installed.wait_committed()
        assert installed.wrong() == []
    assert recover(installed.store, installed.engine) == []
    goes_on(installed)


def test_what_was_read_before_a_recovery_is_not_written_after_it(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch layer that believes the lock its own has read a range when the recovery takes back what is before it."""
    recover_beside_a_batch_run(installed, monkeypatch, "recover")
    with pytest.raises(FenceError):
        installed.batch()
    assert installed.wrong() == []
    installed.new_batch_layer()
    goes_on(installed)


def test_what_is_written_before_a_recovery_has_its_fence_is_named_and_taken_back_by_the_next(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The range lies behind a hole then."""
    recover_beside_a_batch_run(installed, monkeypatch, "archive.fence")
    for _ in range(2):
        with pytest.raises((ProtocolError, FenceError)) as caught:
            installed.batch()
        installed.new_batch_layer()
        assert installed.wrong() == []
        if caught.value.condition == "ARCHIVE_TORN":
            break
    assert caught.value.condition == "ARCHIVE_TORN"
    assert "tideline recover" in caught.value.hint
    assert recover(installed.store, installed.engine) == [], "Kafka holds all of it"
    goes_on(installed)
