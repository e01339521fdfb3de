"""Faults of the protocol, each planted by itself: the state machine must find every one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import protocol_speed
import pytest
from protocol_log import VIEWS, Record, events
from protocol_speed import Batch, Writer
from protocol_world import World

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
    """Invariant 2: the states are in although the commit of the cut was refused or cut off."""
    real = World.commit

    def commit(self: World, writer: Writer, crash: bool = False, unheard: bool = False) -> None:
        found = events(writer.batch.records) if writer.batch and writer.batch.planned else []
        with self.write() as txn:
            for fingerprint in txn.ledger.open.definitions:
                view = VIEWS[fingerprint]
                rows = [view.row(record) for record in found if view.takes(record)]
                merge_into(txn, txn.ledger.open.space(fingerprint), view, rows)
        real(self, writer, crash, unheard)

    patch.setattr(World, "commit", commit)
    patch.setattr(protocol_speed, "merge_into", lambda txn, space, view, rows: None)


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

    def publish(self: Ledger, token: int, cut: Cut, views: Any, segments: Any, log: Any, **options: Any) -> Ledger:
        shorter = {fingerprint: list(ids)[1:] for fingerprint, ids in views.items()}
        return real(self, token, cut, shorter, segments, log, **options)

    patch.setattr(Ledger, "publish", publish)
    patch.setattr(handoff, "check_tiling", lambda ledger, fingerprint, segments, cut: None)


def view_goes_live_where_it_is_not_folded(patch: Patch) -> None:
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

    def commit(self: Ledger, token: int, begin: Cut, end: Cut, definitions: Any, log: Any, counts: Any) -> Ledger:
        return real(self, token, begin, end, self.open.definitions, log, counts)

    patch.setattr(Ledger, "commit", commit)


def floors_fall(patch: Patch) -> None:
    """Invariant 11: what retention had hidden comes back."""
    real = handoff.publish

    def publish(ledger: Ledger, token: int, pieces: handoff.Pieces, keep: int) -> Ledger:
        done = real(ledger, token, pieces, keep)
        return replace(done, versions=(*done.versions[:-1], replace(done.version, floors=dict(pieces.floors))))

    patch.setattr(handoff, "publish", publish)


WRONG_ANSWERS = [
    commit_without_compare_and_set,
    rows_not_filtered_by_the_ledgers_cut,
    states_and_cut_in_two_transactions,
    definitions_of_a_commit_not_compared,
    publish_does_not_expire,
    publish_drops_a_segment,
    view_goes_live_where_it_is_not_folded,
    checksum_not_compared,
]
"""Faults that show in an answer, whether or not anything is known of what the protocol must refuse."""

BROKEN_RULES = [seal_keeps_the_old_definitions, fence_ignored, floors_fall]
"""Faults that other rules keep from the answers, and that are found as rules."""
