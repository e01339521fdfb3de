"""The 16 bytes that stand for an event's id: they tell events apart among those of the horizon, in memory alone."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_128_digest

from tideline.source import RETRACT, SourceDefinition

_BYTES = 16


def identified_by(source: SourceDefinition) -> list[str]:
    """The columns that say which event a row is."""
    return [name for name in (source.event_id, source.operation) if name]


def identified(source: SourceDefinition, events: pa.Table) -> pa.Table:
    """`_partition`, `_offset` and the 16-byte `id` of events."""
    ids = [None, pa.py_buffer(identities(source, events))]
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(_BYTES), len(events), ids)
    return events.select(["_partition", "_offset"]).append_column("id", column)


def identities(source: SourceDefinition, events: pa.Table) -> bytes:
    """16 for each event, whose id is text or a whole number, and not null; a retraction's are not its insertion's.

    XXH3, of 128 bits: two ids among n are taken for one with a probability of n * n / 2 to the power of 129.
    """
    ids = events[str(source.event_id)].cast(pa.string())
    if source.operation:
        signs = pc.if_else(pc.fill_null(pc.equal(events[source.operation], RETRACT), False), "-", "+")
        ids = pc.binary_join_element_wise(signs, ids, "")
    return b"".join(map(xxh3_128_digest, ids.cast(pa.binary()).to_pylist()))
