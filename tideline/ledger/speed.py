"""The speed path's transitions: which part of a micro-batch is new, commit, and overtaking the layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tideline.cut import Cut
from tideline.errors import DefinitionSetError, GapError, ProtocolError, StaleCommitError
from tideline.ledger.parts import Generation, Log, add_counts, merge_logs

if TYPE_CHECKING:
    from tideline.ledger.state import Ledger


def next_range(ledger: Ledger, begin: Cut, end: Cut) -> tuple[Cut, Cut]:
    """The part of [begin, end) that lies after the committed cut, as (committed, its end).

    What lies before it is in already and is to be skipped, row by row; the range may come out empty, and then
    commits all the same. Raises GapError where `begin` is further than the committed cut (invariant 2).
    """
    _no_gap(ledger.committed, begin.complete(ledger.origin))
    return ledger.committed, ledger.committed.advance(end)


def commit(
    ledger: Ledger,
    token: int,
    begin: Cut,
    end: Cut,
    definitions: Iterable[str],
    log: Log,
    rejects: Mapping[str, int],
) -> Ledger:
    """Moves the committed cut from `begin` to `end`: a compare-and-set on the whole vector (invariant 2).

    `definitions` are the fingerprints whose states go into the store in the same transaction; they must
    be the open generation's (invariant 8). `log` counts the records in [begin, end), `rejects` those
    that a view rejected. Raises FenceError, DefinitionSetError, StaleCommitError, GapError,
    ProtocolError.
    """
    ledger.check_fence("speed", token)
    generation = ledger.open
    found = tuple(sorted(definitions))
    if found != generation.definitions:
        raise DefinitionSetError(
            "DEFINITIONS_CHANGED",
            generation=generation.id,
            expected=list(generation.definitions),
            found=list(found),
        )
    begin, end = begin.complete(ledger.origin), end.complete(ledger.origin)
    check_begin(ledger.committed, begin)
    check_log(ledger, begin, end, log)
    grown = replace(generation, log=merge_logs(generation.log, log), rejects=add_counts(generation.rejects, rejects))
    return replace(ledger, committed=ledger.committed.advance(end), generations=(*ledger.generations[:-1], grown))


def overtake(ledger: Ledger, token: int, end: Cut, log: Log, rejects: Mapping[str, int]) -> Ledger:
    """Moves the committed cut to `end` with the speed layer down; batch holds its fence (invariant 9).

    `log` and `rejects` count [committed, end) as the archive has it. The open generation closes, a
    generation without states takes that range, and a new one opens at `end`. Until the publish that
    covers `end`, which belongs into the same transaction, every view that the range touches is refused:
    its events are counted, so that the rules of publish hold unchanged, but no states answer for them.
    Raises FenceError, ProtocolError.
    """
    ledger.check_fence("speed", token)
    end = end.complete(ledger.origin)
    if not end.covers(ledger.committed):
        raise ProtocolError("CUT_FALLS", found=str(end), current=str(ledger.committed))
    check_log(ledger, ledger.committed, end, log)
    closed = close(ledger)
    if end == ledger.committed:
        return closed
    taken = replace(closed.open, end=end, definitions=(), log=merge_logs({}, log), rejects=dict(rejects))
    opened = Generation(closed.next_generation, end, None, closed.next_definitions)
    return replace(
        closed,
        committed=closed.committed.advance(end),
        generations=(*closed.generations[:-1], taken, opened),
        next_generation=closed.next_generation + 1,
    )


def close(ledger: Ledger) -> Ledger:
    """Ends the open generation at the committed cut and opens the next, with the next set of definitions.

    An open generation without a committed offset is replaced: an empty interval needs no generation.
    """
    ended = replace(ledger.open, end=ledger.committed)
    kept = ledger.generations[:-1] if ended.begin == ended.end else (*ledger.generations[:-1], ended)
    opened = Generation(ledger.next_generation, ledger.committed, None, ledger.next_definitions)
    return replace(ledger, generations=(*kept, opened), next_generation=ledger.next_generation + 1)


def check_begin(expected: Cut, begin: Cut) -> None:
    """Raises StaleCommitError or GapError, naming the first partition where `begin` is not `expected`."""
    for topic, partition, offset in expected.partitions():
        found = begin.offset(topic, partition)
        if found < offset:
            raise StaleCommitError("STALE_COMMIT", topic=topic, partition=partition, found=found, expected=offset)
    _no_gap(expected, begin)


def check_log(ledger: Ledger, begin: Cut, end: Cut, log: Log) -> None:
    """Raises ProtocolError unless `end` follows `begin` and no partition has more records than offsets."""
    if not end.covers(begin):
        raise ProtocolError("CUT_FALLS", found=str(end), current=str(begin))
    for topic in {*end.topics(), *log}:
        if topic not in ledger.topic_ids:
            raise ProtocolError("UNKNOWN_TOPIC", topic=topic)
    for topic, partitions in log.items():
        for partition, stats in partitions.items():
            first, after = begin.offset(topic, partition), end.offset(topic, partition)
            if not 0 <= stats.records <= after - first:
                raise ProtocolError(
                    "LOG_OUT_OF_RANGE",
                    topic=topic,
                    partition=partition,
                    records=stats.records,
                    begin=first,
                    end=after,
                )


def _no_gap(expected: Cut, begin: Cut) -> None:
    for topic, partition, found in begin.partitions():
        offset = expected.offset(topic, partition)
        if found > offset:
            raise GapError("GAP", topic=topic, partition=partition, expected=offset, found=found)
