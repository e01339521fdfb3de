"""A ledger with a view over a topic, and the steps that tests take with it."""

from __future__ import annotations

from typing import Any

import pytest

from tideline.cut import Cut
from tideline.errors import (
    TidelineError,
)
from tideline.ledger import Ledger, LogStats, Segment

SOURCE = {"name": "sales", "topic": "sales"}
STREET = {"name": "street", "topic": "street"}


def definition(name: str, fingerprint: str, source: str = "sales") -> dict[str, Any]:
    return {"name": name, "source": source, "fingerprint": fingerprint}


def at(zero: int, one: int = 0) -> Cut:
    return Cut({"sales": {0: zero, 1: one}})


def log(records: int, checksum: int = 0) -> dict[str, dict[int, LogStats]]:
    return {"sales": {0: LogStats(records, checksum, records)}}


def new_ledger() -> Ledger:
    """View v over sales, in force and live; both fences taken with token 1."""
    new = Ledger.create("test").apply(
        {"sales": SOURCE}, {"v1": definition("v", "v1")}, {"v": "v1"}, {"sales": "id"}, at(0, 0)
    )
    new, speed = new.take_fence("speed")
    new, batch = new.take_fence("batch")
    assert (speed, batch) == (1, 1)
    return new.seal(1)


def committed(ledger: Ledger, end: Cut, records: int = 0, checksum: int = 0) -> Ledger:
    return ledger.commit(1, ledger.committed, end, ledger.open.definitions, log(records, checksum))


def segment(id: int, begin: Cut, end: Cut, view: str = "v1", rows: int = 1) -> Segment:
    return Segment(id, view, begin, end, rows, "incremental")


def sealed(ledger: Ledger, end: Cut, records: int = 1) -> Ledger:
    """Committed, sealed and archived up to `end`, with an id allotted for a segment."""
    after = committed(ledger, end, records).seal(1)
    return after.archive(1, end, after.sources).allot(1, 1)[0]


def published(ledger: Ledger, end: Cut, records: int = 1) -> Ledger:
    """`sealed`, and v published there with one segment more."""
    ready = sealed(ledger, end, records)
    fresh = segment(ready.next_segment - 1, ready.version.cut, end)
    views = {"v1": [*ready.version.views.get("v1", ()), fresh.id]}
    total = ready.log()["sales"][0].records
    return ready.publish(1, end, views, [fresh], log(total))


def refusal(kind: type[TidelineError], step: Any) -> TidelineError:
    with pytest.raises(kind) as refused:
        step()
    assert refused.value.hint
    assert "{" not in str(refused.value)
    return refused.value
