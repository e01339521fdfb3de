"""Files of events as keys and values."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tideline.eventfiles import Event, EventFile, EventFileError, retraction
from tideline.types import parse_schema

COLUMNS = parse_schema("id string, n int, price decimal(10,2), x double, ok boolean, name string")


def csv_events(tmp_path: Path, text: str, **options: str) -> list[Event]:
    path = tmp_path / "events.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return list(EventFile(path, COLUMNS, "id", **options))  # type: ignore[arg-type]


def test_numbers_are_numbers_where_the_schema_says_so_and_empty_cells_are_left_out(tmp_path: Path) -> None:
    (event,) = csv_events(tmp_path, "id,n,price,x,ok,name,other\n7,12,3.50,-1e3,true,5,\n")
    assert event == Event(b"7", b'{"id":"7","n":12,"price":3.50,"x":-1e3,"ok":true,"name":"5"}')


@pytest.mark.parametrize("cell", ["abc", "1,5", "007", "+1", ".5", "5.", "NaN", "0x1F", " 1", "١"])
def test_what_is_not_spelled_as_a_json_number_stays_text(tmp_path: Path, cell: str) -> None:
    (event,) = csv_events(tmp_path, f'id,n\na,"{cell}"\n')
    assert json.loads(event.value) == {"id": "a", "n": cell}


def test_quotes_line_breaks_and_other_scripts_survive(tmp_path: Path) -> None:
    (event,) = csv_events(tmp_path, '\ufeffid,name\n"a ""b""\n\u2028\t","naïve, 日本"\n')
    assert json.loads(event.value) == {"id": 'a "b"\n\u2028\t', "name": "naïve, 日本"}
    assert event.key == 'a "b"\n\u2028\t'.encode()


def test_bytes_that_are_not_utf8_pass_unchanged(tmp_path: Path) -> None:
    (event,) = csv_events(tmp_path, "id,name\na,\udce9\udcff\n")
    assert event.value == b'{"id":"a","name":"\xe9\xff"}'


def test_rows_are_numbered_for_files_without_an_id(tmp_path: Path) -> None:
    events = csv_events(tmp_path, "name\nx\nx\n", row_id="id")
    assert events == [Event(b"1", b'{"id":"1","name":"x"}'), Event(b"2", b'{"id":"2","name":"x"}')]


@pytest.mark.parametrize("text", ["", "id,id\n1,2\n", "id,\n1,2\n", "id,n\n1\n", "id,n\n1,2,3\n"])
def test_a_csv_that_does_not_hold_together_is_refused_with_its_row(tmp_path: Path, text: str) -> None:
    with pytest.raises(EventFileError) as caught:
        csv_events(tmp_path, text)
    assert caught.value.condition == "BAD_CSV"
    assert caught.value.exit_code == 2


def test_json_lines_pass_unchanged_broken_or_not(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    lines = [b'{"id": "a",  "n": 1.50}', b'{"id": 5}', b'{"id', b"[1]", b"\xff", b'{"n": "\xe2\x80\xa8"}']
    path.write_bytes(gzip.compress(b"\r\n".join([*lines, b"", b"  "])))
    events = list(EventFile(path, COLUMNS, "id"))
    assert [event.value for event in events] == lines
    assert [event.key for event in events] == [b"a", b"5", None, None, None, None]


def test_json_lines_can_be_numbered_too(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_bytes(b'{"n":1}\n{}\nnull\n')
    assert [event.value for event in EventFile(path, row_id="id")] == [
        b'{"id":"1","n":1}',
        b'{"id":"2"}',
        b"null",
    ]


def test_a_files_events_are_taken_back_with_the_bytes_that_they_came_with() -> None:
    values = [b'{"id": "a",  "price": 1.50}', b" {} ", b'{"broken', b"[1]", b'{"id":"\xff"}']
    found = [retraction(Event(b"k", value), "op") for value in values]
    assert [event.value for event in found] == [
        b'{"op":"retract","id": "a",  "price": 1.50}',
        b'{"op":"retract"} ',
        b'{"op":"retract","broken',
        b"[1]",
        b'{"op":"retract","id":"\xff"}',
    ]
    assert {event.key for event in found} == {b"k"}
    for value in (b'{"id":1,"op":"insert"}', b'{"op":null}'):
        with pytest.raises(EventFileError) as caught:
            retraction(Event(None, value), "op")
        assert (caught.value.condition, caught.value.exit_code) == ("OPERATION_GIVEN", 2)


def test_reading_says_how_far_it_is_and_stops_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"n":1}\n' * 100)
    file = EventFile(path, limit=10)
    assert file.fraction == 0
    reading = iter(file)
    for _ in range(5):
        next(reading)
    assert 0.5 <= file.fraction <= 1
    assert len(list(file)) == 10
    assert file.fraction == 1


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(EventFileError) as caught:
        EventFile(tmp_path / "absent.csv")
    assert caught.value.condition == "FILE_UNREADABLE"
    with pytest.raises(EventFileError) as caught:
        EventFile(tmp_path / "events.parquet")
    assert caught.value.condition == "UNKNOWN_FORMAT"
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"id\n" + b"1\n" * 1000)[:-10])
    with pytest.raises(EventFileError) as caught:
        list(EventFile(tmp_path / "cut.csv.gz"))
    assert caught.value.condition == "FILE_UNREADABLE"
