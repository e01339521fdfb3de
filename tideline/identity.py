"""The 16 bytes that stand for an event's id, as Spark computes them and as Python does; equal, by a test."""

from __future__ import annotations

from hashlib import md5

import pyarrow as pa

from tideline.source import RETRACT, SourceDefinition


def identities(source: SourceDefinition, events: pa.Table) -> list[bytes]:
    """The identity of each event; its id is text or a whole number, and not null."""
    ids = map(str, events[str(source.event_id)].to_pylist())
    if source.operation:
        signs = ("-" if said == RETRACT else "+" for said in events[source.operation].to_pylist())
        ids = map("".join, zip(signs, ids, strict=True))
    return [md5(id.encode(), usedforsecurity=False).digest() for id in ids]
