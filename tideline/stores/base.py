"""What a store is: sorted spaces of keys and values beside one ledger, changed together in one transaction.

A space holds the states of one view in one generation (`g7/<fingerprint>`) or of one batch segment
(`s12`). Names are never given twice, for ids only grow. Spaces follow the ledger: putting a ledger
creates the spaces of the generation that it opens, drops those that it no longer names, and is refused
where a segment that it names is not there whole. So a publish and its expiry are one transaction, and a
reader sees either all of both or nothing (invariant 5).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from tideline.errors import MissingSegmentError, ProtocolError
from tideline.ledger import Ledger

Item = tuple[bytes, bytes]


class Snapshot(Protocol):
    """One consistent state of the whole store; changes after it was taken do not show (invariant 6).

    Every read of a space that is not there raises MissingSegmentError (invariant 7). A snapshot pins
    what it shows on disk: take it for one query, not for the life of a process.
    """

    @property
    def ledger(self) -> Ledger: ...

    def get(self, space: str, key: bytes) -> bytes | None:
        """The value of a key."""
        ...

    def get_many(self, space: str, keys: Iterable[bytes]) -> Mapping[bytes, bytes]:
        """{key: value} of the keys that are there."""
        ...

    def scan(self, space: str, lower: bytes | None = None, upper: bytes | None = None) -> Iterator[Item]:
        """(key, value) with lower <= key < upper in the order of the keys; None leaves a side open."""
        ...

    def count(self, space: str) -> int:
        """How many keys a space holds; takes no scan."""
        ...

    def spaces(self) -> list[str]:
        """The names of all spaces, sorted, with those that are being loaded or were left over."""
        ...


class WriteTransaction(Snapshot, Protocol):
    """The one writer's transaction: reads its own changes; an exception inside leaves nothing of it behind.

    Transitions of the ledger start from this transaction's `ledger`, never from one that was read before.
    """

    def put_ledger(self, ledger: Ledger) -> None:
        """Replaces the ledger, and creates and drops spaces as it says. Raises MissingSegmentError."""
        ...

    def create(self, space: str) -> None:
        """Makes an empty space; does nothing where it exists."""
        ...

    def put(self, space: str, key: bytes, value: bytes) -> None:
        """Sets a key of a space that exists."""
        ...

    def put_many(self, space: str, items: Iterable[Item]) -> None:
        """Sets many keys of a space that exists; fastest in the order of the keys."""
        ...

    def load(self, space: str, rows: Iterable[Item]) -> int:
        """Appends rows, each key after the last one there, to a space that is made if need be; how many.

        A segment is loaded in chunks over several transactions, and no reader finds it before a ledger
        names it. Raises ProtocolError where a key is not after the one before, or the ledger names the
        segment already.
        """
        ...

    def drop(self, space: str) -> None:
        """Removes a space; does nothing where there is none."""
        ...


class Store(Protocol):
    """Opened by its class's `open`; safe to use from several threads."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """A consistent view for reading, inside `with`."""
        ...

    def write(self) -> AbstractContextManager[WriteTransaction]:
        """The write transaction, inside `with`: committed at its end, undone by an exception. One at a time.

        A change of the ledger other than a commit is on disk when the `with` block has ended (invariant 12).
        """
        ...

    def sync(self) -> None:
        """Returns when everything committed is on disk."""
        ...

    def usage(self) -> Mapping[str, Any]:
        """What it takes, JSON-able: `bytes` on disk, of a `map` of so many of which `used` were ever filled; slots of
        `readers` in use; and how many transactions `behind` the oldest reader is, whose `pid` pins their pages.
        """
        ...

    def close(self) -> None:
        """Ends the use of the store."""
        ...


def follow_ledger(txn: WriteTransaction, before: Ledger, after: Ledger) -> None:
    """Creates, checks and drops spaces for the step from one ledger to the next, inside `put_ledger`."""
    if before.generations is after.generations and before.segments is after.segments:
        return
    named, names = before.spaces(), after.spaces()
    for segment in after.segments.values():
        if segment.id not in before.segments and txn.count(segment.space) != segment.rows:
            raise MissingSegmentError(
                "INCOMPLETE_SPACE",
                segment=segment.id,
                expected=segment.rows,
                found=txn.count(segment.space),
            )
    segments = {segment.space for segment in after.segments.values()}
    for space in sorted(names - named - segments):
        txn.create(space)
    for space in sorted(named - names):
        txn.drop(space)


def refuse_reload(ledger: Ledger, space: str) -> None:
    """Raises ProtocolError where `space` is a segment that the ledger names, which never changes again."""
    if any(segment.space == space for segment in ledger.segments.values()):
        raise ProtocolError("SEGMENT_ID", segment=int(space[1:]))


def is_commit(before: Ledger, after: Ledger) -> bool:
    """Whether nothing but a commit of the speed layer lies between two ledgers.

    A commit need not be on disk: cut and states go back together (invariant 12).
    """
    same_generations = [g.id for g in before.generations] == [g.id for g in after.generations]
    return same_generations and after.committed.covers(before.committed) and _fixed(before) == _fixed(after)


def _fixed(ledger: Ledger) -> tuple[object, ...]:
    return (
        ledger.sources,
        ledger.topic_ids,
        ledger.definitions,
        ledger.wanted,
        ledger.live,
        ledger.archived,
        ledger.origin,
        ledger.versions,
        ledger.segments,
        ledger.next_segment,
        ledger.fences,
        ledger.quarantined,
        ledger.last_batch,
        ledger.losses,
    )


def collect_garbage(txn: WriteTransaction, staged: Collection[str] = ()) -> list[str]:
    """Drops the spaces that a crashed load left behind, and names them.

    Those are the ones that neither the ledger names nor `staged` lists. Only the batch layer, holding
    its lock, may call it: it knows what it is loading.
    """
    kept = txn.ledger.spaces().union(staged)
    garbage = [space for space in txn.spaces() if space not in kept]
    for space in garbage:
        txn.drop(space)
    return garbage
