"""Looking for ids in files: whatever form they have there, and nowhere in Kafka's."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tideline.keys import encode_key
from tideline.runtime.home import Home
from tideline.scan import drop_lines, scan
from tideline.types import BIGINT

ID = "9f86d081884c7d659a2feaa0c55ad015"
NUMBER = 5_012_345_678_901
HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
COLUMNS = {
    "a text": pa.array(["x", f"of {ID}!", None]),
    "bytes": pa.array([None, b"\xff" + ID.encode()], pa.binary()),
    "escaped JSON": pa.array([json.dumps({"a": "Ελλάδα-1"}).encode()]),
    "a header's value": pa.array([None, [{"key": "k", "value": ID.encode()}]], HEADERS),
    "a header's name": pa.array([[{"key": ID, "value": None}]], HEADERS),
    "a category": pa.array([[(ID, 1)]], pa.map_(pa.string(), pa.int64())),
    "a dictionary": pa.array([ID, "x", ID]).dictionary_encode(),
    "a struct in a struct": pa.array([{"a": {"b": ID}}]),
    "a number": pa.array([1, NUMBER, None], pa.int64()),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_an_id_is_found_in_a_compressed_column(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path).prepare()
    id, column = {"escaped JSON": "Ελλάδα-1", "a number": str(NUMBER)}.get(name, ID), COLUMNS[name]
    options = {"compression": "zstd", "write_statistics": False}
    pq.write_table(
        pa.table({"x": column, "y": pa.nulls(len(column), pa.int32())}), home.master / "f.parquet", **options
    )
    pq.write_table(pa.table({"x": ["nothing"]}), home.master / "g.parquet", **options)
    assert scan(home, ["somebody-else", id]).found == [(home.master / "f.parquet", 1)]


@pytest.mark.parametrize(
    ("id", "data"),
    [
        (ID, b"\0\0" + ID.encode() + b"\0"),
        ("Grüße-an-alle", json.dumps("Grüße-an-alle").encode()),
        (str(NUMBER), encode_key([BIGINT], [NUMBER])),
        (str(NUMBER), NUMBER.to_bytes(8, "little")),
    ],
)
def test_an_id_is_found_in_plain_bytes_but_not_in_kafkas(tmp_path: Path, id: str, data: bytes) -> None:
    home = Home(tmp_path).prepare()
    (home.store / "data.mdb").write_bytes(b"\1" * 5000 + data)
    (home.store / "empty").touch()
    (home.kafka / "segment.log").write_bytes(data)
    looked = scan(home, [id])
    assert looked.found == [(home.store / "data.mdb", 0)]
    assert (looked.files, looked.bytes) == (2, 5000 + len(data))


def test_a_short_id_is_not_looked_for(tmp_path: Path) -> None:
    home = Home(tmp_path).prepare()
    (home.run / "serve.log").write_text("17850")
    pq.write_table(pa.table({"x": [17850]}), home.master / "f.parquet")
    assert scan(home, ["17850"]).found == []


def test_lines_that_hold_an_id_are_dropped_and_others_stay_byte_for_byte(tmp_path: Path) -> None:
    log = tmp_path / "speed.log"
    log.write_bytes(b"one\r\n\xfftwo " + ID.encode() + b"\nthree")
    assert drop_lines(log, [ID.encode()]) == 1
    assert log.read_bytes() == b"one\r\nthree"
    assert drop_lines(log, [ID.encode()]) == 0
