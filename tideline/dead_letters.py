"""Finding dead letters: in the master for what is archived, in Kafka for what is not yet."""

from __future__ import annotations

import base64
import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import attrgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tideline.cut import Cut
from tideline.decode import decode_values
from tideline.erased import ERASED
from tideline.errors import UsageError
from tideline.eventfiles import Event
from tideline.held import read_held
from tideline.ledger import Ledger
from tideline.produce import Sender
from tideline.runtime.home import Home
from tideline.runtime.reading import read_records
from tideline.source import SourceDefinition
from tideline.types import json_value

Place = tuple[str, int, int]
REPLAY_OF = "tideline-replay-of"  # the header of a record that was sent again


@dataclass(frozen=True)
class DeadLetter:
    """One record with the reason why it is no event."""

    source: str
    partition: int
    offset: int
    at: dt.datetime
    reason: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Text where the bytes are UTF-8, with the bytes in base64 beside it."""
        value = self.value or b""
        return {
            "source": self.source,
            "partition": self.partition,
            "offset": self.offset,
            "at": json_value(self.at),
            "reason": self.reason,
            "bytes": len(value),
            "value": value.decode("utf-8", "replace"),
            "base64": base64.b64encode(value).decode(),
        }


def read_place(text: str) -> Place:
    """What `SOURCE:PARTITION:OFFSET` names. Raises UsageError BAD_PLACE."""
    try:
        source, partition, offset = text.rsplit(":", 2)
        return source, int(partition), int(offset)
    except ValueError:
        hint = "write SOURCE:PARTITION:OFFSET"
        raise UsageError("BAD_PLACE", f"{text[:200]} does not name a record", hint, place=text[:200]) from None


def find(
    home: Home,
    ledger: Ledger,
    bootstrap: str,
    source: str | None,
    reason: str | None,
    places: Sequence[Place],
    limit: int | None = None,
) -> list[DeadLetter]:
    """Up to `limit` dead letters before the committed cut, by source in log order."""
    return list(islice(_find(home, ledger, bootstrap, source, reason, places), limit))


def _find(
    home: Home, ledger: Ledger, bootstrap: str, source: str | None, reason: str | None, places: Sequence[Place]
) -> Iterator[DeadLetter]:
    for name in [source] if source else sorted(ledger.sources):
        definition = SourceDefinition.from_json(ledger.sources[name])
        held = read_held(home.master / name)
        middle = held.part(definition.topic, ledger.archived.least(definition.topic, ledger.committed))
        old = _archived(home, held.version, middle, definition) if held.metadata else ()
        for letter in (*old, *_fresh(middle, ledger.committed, bootstrap, definition)):
            place = (letter.source, letter.partition, letter.offset)
            if (not places or place in places) and (reason is None or reason in letter.reason):
                yield letter


def _archived(home: Home, version: int, end: Cut, source: SourceDefinition) -> Iterator[DeadLetter]:
    """From the master, which may be ahead of the ledger for a moment."""
    from deltalake import DeltaTable

    columns = ["_partition", "_offset", "_timestamp", "_reason", "_key", "_value", "_headers"]
    dataset = DeltaTable(str(home.master / source.name), version=version).to_pyarrow_dataset()
    table = dataset.to_table(columns=columns, filter=pc.field("_reason").is_valid())
    for row in table.sort_by([("_partition", "ascending"), ("_offset", "ascending")]).to_pylist():
        if row["_offset"] >= end.offset(source.topic, row["_partition"]):
            continue
        yield DeadLetter(
            source.name,
            row["_partition"],
            row["_offset"],
            row["_timestamp"],
            row["_reason"],
            row["_key"],
            row["_value"],
            tuple((header["key"], header["value"]) for header in row["_headers"] or ()),
        )


def _fresh(begin: Cut, end: Cut, bootstrap: str, source: SourceDefinition) -> Iterator[DeadLetter]:
    for batch in read_records(bootstrap, source.topic, begin, end):
        times = pa.array([record.at for record in batch], pa.timestamp("us", "UTC"))
        values = pa.array([record.value for record in batch], pa.binary())
        headers = [[{"key": name, "value": value} for name, value in record.headers] for record in batch]
        _, reasons = decode_values(source, values, times, [record.key for record in batch], headers)
        for record, reason in zip(batch, reasons.to_pylist(), strict=True):
            if reason is not None:
                kept = (None, None) if reason == ERASED else (record.key, record.value, tuple(record.headers))
                yield DeadLetter(source.name, record.partition, record.offset, record.at, reason, *kept)


def replay(ledger: Ledger, bootstrap: str, letters: Iterable[DeadLetter]) -> dict[str, int]:
    """Sends records whole to their topics again, with one more header that names the place; how many by source.

    A header without a value is sent with an empty one. Of an erased record, or one without a value, there is nothing to
    send.
    """
    sent: Counter[str] = Counter()
    for source, group in groupby(letters, attrgetter("source")):
        with Sender(str(ledger.sources[source]["topic"]), bootstrap) as sender:
            for letter in group:
                if letter.value is None:
                    continue
                own = [(name, value or b"") for name, value in letter.headers if name != REPLAY_OF]
                place = (REPLAY_OF, f"{letter.partition}:{letter.offset}".encode())
                sender.send(Event(letter.key, letter.value), [*own, place])
                sent[source] += 1
    return dict(sent)
