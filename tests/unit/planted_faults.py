"""Faults of the protocol, each planted by itself: the state machine must find every one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from protocol_log import VIEWS, Record, events, rejects, statistics
from protocol_world import Batch, World, Writer

from tideline.cut import Cut
from tideline.ledger import Ledger, handoff, speed
from tideline.merge import merge_into

Patch = pytest.MonkeyPatch


def commit_without_compare_and_set(patch: Patch) -> None:
    """Invariant 2: a commit that begins anywhere is taken."""
    patch.setattr(speed, "check_begin", lambda expected, begin: None)


def rows_not_filtered_by_the_ledgers_cut(patch: Patch) -> None:
    """Invariant 2: a replayed range is folded whole."""

    def rows(self: World, batch: Batch, begin: Cut, end: Cut) -> list[Record]:
        return self.log.between(batch.begin, end)

    patch.setattr(World, "rows_of", rows)
    patch.setattr(speed, "check_log", lambda ledger, begin, end, log: None)


def states_and_cut_in_two_transactions(patch: Patch) -> None:
    """Invariant 2: the states are in although the commit was refused or cut off."""

    def commit(self: World, txn: Any, writer: Writer, batch: Batch, begin: Cut, end: Cut) -> None:
        planned = batch.planned
        assert planned is not None
        definitions = planned.open.definitions
        ledger = txn.ledger.commit(
            writer.token,
            begin,
            end,
            definitions,
            statistics(batch.records),
            rejects(definitions, batch.records),
        )
        self.store.state = _with_states(self, ledger, definitions, batch)
        txn.put_ledger(ledger)

    patch.setattr(World, "commit_into", commit)


def _with_states(world: World, ledger: Ledger, definitions: tuple[str, ...], batch: Batch) -> Any:
    from tideline.stores.memory import MemoryTransaction

    state: Any = world.store.state  # type: ignore[attr-defined]
    txn = MemoryTransaction(state.ledger, state._spaces)
    for fingerprint in definitions:
        view = VIEWS[fingerprint]
        rows = [view.row(record) for record in events(batch.records) if view.takes(record)]
        merge_into(txn, ledger.open.space(fingerprint), view, rows)
    return txn.finish()


def seal_keeps_the_old_definitions(patch: Patch) -> None:
    """Invariant 3: what was applied never comes into force."""
    real = speed.close

    def close(ledger: Ledger) -> Ledger:
        closed = real(ledger)
        opened = replace(closed.open, definitions=ledger.open.definitions or closed.open.definitions)
        return replace(closed, generations=(*closed.generations[:-1], opened))

    patch.setattr(handoff, "close", close)


def publish_does_not_expire(patch: Patch) -> None:
    """Invariant 5: the generations that a version covers go on being added to it."""
    patch.setattr(handoff, "_before", lambda generation, cut: False)
    patch.setattr(handoff, "check_log_matches", lambda ledger, expired, log, cut: None)


def publish_drops_a_segment(patch: Patch) -> None:
    """Invariant 7: a version lists one segment less than was built."""
    real = Ledger.publish

    def publish(
        self: Ledger, token: int, cut: Cut, views: Any, segments: Any, log: Any, **options: Any
    ) -> Ledger:
        shorter = {fingerprint: list(ids)[1:] for fingerprint, ids in views.items()}
        return real(self, token, cut, shorter, segments, log, **options)

    patch.setattr(Ledger, "publish", publish)
    patch.setattr(handoff, "check_tiling", lambda ledger, fingerprint, segments, cut: None)


def publish_forgets_a_live_view(patch: Patch) -> None:
    """Invariant 5: a view goes live although a later generation does not fold it."""
    patch.setattr(handoff, "_holds", lambda ledger, generation, fingerprint: True)
    patch.setattr(Ledger, "unbuilt", property(lambda self: dict(self.wanted)))


def checksum_not_compared(patch: Patch) -> None:
    """Invariant 7: an archive that lost a record is published."""
    patch.setattr(handoff, "check_log_matches", lambda ledger, expired, log, cut: None)


def fence_ignored(patch: Patch) -> None:
    """Invariant 9: a writer that was replaced goes on writing."""
    patch.setattr(Ledger, "check_fence", lambda self, layer, token: None)


def definitions_of_a_commit_not_compared(patch: Patch) -> None:
    """Invariant 8: states of another set of definitions are taken."""
    real = Ledger.commit

    def commit(
        self: Ledger, token: int, begin: Cut, end: Cut, definitions: Any, log: Any, counts: Any
    ) -> Ledger:
        return real(self, token, begin, end, self.open.definitions, log, counts)

    patch.setattr(Ledger, "commit", commit)


def floors_fall(patch: Patch) -> None:
    """Invariant 11: what retention had hidden comes back."""
    real = handoff.publish

    def publish(ledger: Ledger, token: int, pieces: handoff.Pieces, keep: int) -> Ledger:
        done = real(ledger, token, pieces, keep)
        return replace(
            done, versions=(*done.versions[:-1], replace(done.version, floors=dict(pieces.floors)))
        )

    patch.setattr(handoff, "publish", publish)


FAULTS = [
    commit_without_compare_and_set,
    rows_not_filtered_by_the_ledgers_cut,
    states_and_cut_in_two_transactions,
    definitions_of_a_commit_not_compared,
    seal_keeps_the_old_definitions,
    publish_does_not_expire,
    publish_drops_a_segment,
    publish_forgets_a_live_view,
    checksum_not_compared,
    fence_ignored,
    floors_fall,
]
