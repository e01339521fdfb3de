"""Speed writers: a fence, a place in the log, and a batch that is folded first and committed later."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol_log import VIEWS, Record, events, is_between, rejects, statistics
from protocol_site import Site

from tideline.cut import Cut
from tideline.errors import DefinitionSetError, FenceError, GapError, StaleCommitError, TidelineError
from tideline.ledger import Ledger
from tideline.merge import merge_into
from tideline.stores.base import Store, WriteTransaction


@dataclass
class Batch:
    """A micro-batch: the range that Spark planned, and what the fold made of it at some ledger."""

    begin: Cut
    end: Cut
    planned: Ledger | None = None
    range: tuple[Cut, Cut] | None = None
    records: list[Record] = field(default_factory=list)


@dataclass
class Writer:
    """A speed layer's process: its fence, where its query will read next, its batch in flight."""

    token: int = -1
    position: Cut = field(default_factory=Cut)
    batch: Batch | None = None


class SpeedSteps(Site):
    """What a speed layer does, one step at a time, and what of it must be refused."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.writers = [Writer(), Writer()]

    def start_writer(self, writer: Writer) -> None:
        with self.write() as txn:
            ledger, writer.token = txn.ledger.take_fence("speed")
            txn.put_ledger(ledger)
        writer.position, writer.batch = ledger.committed, None

    def poll(self, writer: Writer, lengths: tuple[int, int, int]) -> None:
        """Spark plans a range from where its query stands; it may be empty or begin elsewhere."""
        known = self.ledger().topic_ids
        end: dict[str, dict[int, int]] = {}
        for (topic, partition, last), length in zip(self.log.end.partitions(), lengths, strict=True):
            if topic in known:
                first = max(writer.position.offset(topic, partition), 5 if topic == "u" else 0)
                end.setdefault(topic, {})[partition] = max(first, min(first + length, last))
        writer.batch = Batch(writer.position, Cut(end))

    def move(self, writer: Writer, places: tuple[int, int, int], ahead: bool) -> None:
        """Puts the query somewhere else: a few offsets before the ledger's cut, or after it."""
        committed = self.ledger().committed
        offsets: dict[str, dict[int, int]] = {}
        for (topic, partition, offset), distance in zip(committed.partitions(), places, strict=False):
            first = 5 if topic == "u" else 0
            place = min(offset + distance, self.log.end.offset(topic, partition)) if ahead else offset - distance
            offsets.setdefault(topic, {})[partition] = max(first, place)
        writer.position, writer.batch = Cut(offsets), None

    def fold(self, writer: Writer) -> None:
        """The batch is folded at the ledger of this moment: rows by its cut, states by its definitions."""
        batch = writer.batch
        if batch is None:
            return
        ledger = self.ledger()
        gap = not ledger.committed.covers(batch.begin)
        with self.expecting(GapError if gap else None) as allowed:
            begin, end = ledger.next_range(batch.begin, batch.end)
            allowed()
            batch.planned, batch.range = ledger, (begin, end)
            batch.records = self.rows_of(batch, begin, end)
        if gap:
            writer.batch, writer.position = None, ledger.committed

    def rows_of(self, batch: Batch, begin: Cut, end: Cut) -> list[Record]:
        """The records of Spark's range that lie in the range to commit."""
        return [record for record in self.log.between(batch.begin, batch.end) if is_between(record, begin, end)]

    def commit(self, writer: Writer, crash: bool = False, unheard: bool = False) -> None:
        """Commits the batch as it was folded; `unheard` leaves it to be tried again."""
        batch = writer.batch
        if batch is None or batch.planned is None or batch.range is None:
            return
        begin, end = batch.range
        ledger, planned = self.ledger(), batch.planned
        refusal: type[TidelineError] | None = None
        if writer.token != ledger.fences["speed"]:
            refusal = FenceError
        elif planned.open.definitions != ledger.open.definitions:
            refusal = DefinitionSetError
        elif begin.complete(ledger.origin) != ledger.committed:
            behind = not begin.complete(ledger.origin).covers(ledger.committed)
            refusal = StaleCommitError if behind else GapError
        with self.expecting(refusal) as allowed, self.write(crash) as txn:
            self.commit_into(txn, writer, batch, begin, end)
            allowed()
        if refusal is None and unheard:
            return
        if refusal is None and not crash:
            writer.position, writer.batch = writer.position.advance(batch.end), None
        elif refusal is FenceError:
            writer.batch = None
        else:
            batch.planned = None

    def commit_into(self, txn: WriteTransaction, writer: Writer, batch: Batch, begin: Cut, end: Cut) -> None:
        assert batch.planned is not None
        definitions = batch.planned.open.definitions
        counted = rejects(definitions, batch.records)
        ledger = txn.ledger.commit(writer.token, begin, end, definitions, statistics(batch.records), counted)
        found = events(batch.records)
        for fingerprint in definitions:
            view = VIEWS[fingerprint]
            merge_into(txn, ledger.open.space(fingerprint), view, [view.row(r) for r in found if view.takes(r)])
        txn.put_ledger(ledger)
