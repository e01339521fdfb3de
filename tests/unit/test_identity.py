"""What stands for an event's id: the same for the same id, another for any other, and for its retraction."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tideline.identity import identified, identities
from tideline.source import Source, SourceDefinition

ONE = {"event_time": "at", "event_id": "id"}
NUMBERED = Source("s", schema="id bigint, at timestamp", **ONE).resolve()
NAMED = Source("s", schema="id string, at timestamp", **ONE).resolve()
CORRECTED = Source("s", schema="id string, at timestamp, op string", operation="op", **ONE).resolve()


def found(source: SourceDefinition, **columns: list[Any]) -> list[bytes]:
    data = identities(source, pa.table(columns))
    return [data[at : at + 16] for at in range(0, len(data), 16)]


@given(st.lists(st.text(), max_size=50))
def test_ids_are_told_apart_by_what_stands_for_them(ids: list[str]) -> None:
    seen = found(NAMED, id=ids)
    assert len(seen) == len(ids)
    assert [a == b for a in seen for b in seen] == [a == b for a in ids for b in ids]


def test_a_whole_number_is_its_text() -> None:
    assert found(NUMBERED, id=[-1, 0, 2**62]) == found(NAMED, id=["-1", "0", str(2**62)])


def test_a_retraction_is_no_repeat_of_its_insertion() -> None:
    seen = found(CORRECTED, id=["a"] * 4, op=["insert", "retract", None, "retract"])
    assert seen[0] == seen[2] != seen[1] == seen[3]
    assert set(seen) == set(found(NAMED, id=["+a", "-a"]))


def test_a_table_of_ids_has_their_places() -> None:
    places = {"_partition": pa.array([1, 2], pa.int32()), "_offset": pa.array([5, 7], pa.int64())}
    table = identified(NAMED, pa.table({**places, "id": ["a", "b"]}))
    assert table.select(["_partition", "_offset"]).to_pylist() == pa.table(places).to_pylist()
    assert table["id"].to_pylist() == found(NAMED, id=["a", "b"])
    assert len(identified(NAMED, pa.table({**places, "id": ["a", "b"]}).slice(0, 0))) == 0
