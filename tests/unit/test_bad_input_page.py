"""`docs/bad-input.md` lists what the tables of the tests list, row by row.

`python -m pytest tests/unit/test_bad_input_page.py` prints the rows that differ; the rows to put there are those of
`rows_of_page`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bad_definitions import CATALOGS
from bad_files import HOMES, OPTIONS, PRODUCED
from bad_records import EVENT, NOW, RECORDS, BadRecord, text
from bad_requests import BROKEN_OFF, GARBAGE, HARMLESS, REQUESTS
from bad_settings import SETTINGS

PAGE = Path(__file__).parents[2] / "docs" / "bad-input.md"
SHOWN = 60  # letters of an example


class Number(str):
    """A number as it is spelled."""


def brief(example: str) -> str:
    """An example as a table's cell."""
    plain = (
        "".join(letter if " " <= letter <= "~" else escaped(letter) for letter in example)
        .replace("`", "'")
        .replace("|", "\\|")
        .strip()
    )
    return f"`{plain[:SHOWN]}…`" if len(plain) > SHOWN else f"`{plain}`" if plain else ""


def escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def read(value: bytes | str) -> object:
    return json.loads(value, parse_int=Number, parse_float=Number, parse_constant=Number)


def spelled(value: object) -> str:
    return value if isinstance(value, Number) else json.dumps(value, default=str)


def record_example(bad: BadRecord) -> str:
    """The fields that make a record bad, or its bytes where it has none; its key and its headers."""
    marks = [f"key {bad.key.hex(' ')}"] if bad.key and bad.key != b"gone" else []
    marks += [f"header {name}={value.hex(' ')}" for name, value in bad.headers]
    if marks or bad.value is None:
        return ", ".join(marks) or "null"
    good = read(text())
    assert isinstance(good, dict)
    try:
        found = read(bad.value.decode())
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and len(found) >= len(good):
        known = {name: spelled(value) for name, value in good.items()}
        changed = {name: spelled(value) for name, value in found.items() if spelled(value) != known.get(name)}
        return ", ".join(f'"{name}": {value}' for name, value in changed.items() if "but-" not in value)
    whole = (
        NOW.isoformat().encode() in bad.value
        or (b"buy,1" not in bad.value and b"buy" in bad.value.replace(b"\0", b""))
        or bad.value.startswith(b"\x1f\x8b")
    )  # with the time of this run
    return "" if whole else bad.value.decode("latin-1")


def rows_of_page() -> Iterator[str]:
    """Every row of the page's tables."""

    def row(*cells: str) -> str:
        return f"| {' | '.join(cells)} |"

    for bad in RECORDS:
        gets = "an event" if bad.gets == EVENT else f"`{bad.gets}`"
        yield row(bad.kind, brief(record_example(bad)), gets)
    for catalog in CATALOGS:
        yield row(
            catalog.kind,
            brief(catalog.line.partition("source=s, ")[2].rstrip(")") or catalog.line),
            f"`{catalog.gets}`",
        )
    for setting in SETTINGS:
        content = "" if setting.config is None else setting.config.decode("latin-1")
        example = content or " ".join([*(name for name, _ in setting.variables), *setting.words])
        yield row(setting.kind, brief(example), f"`{setting.gets}`")
    for request in REQUESTS:
        body = (request.body or b"").decode("latin-1")
        target = request.target.removeprefix("/v1/views/")
        yield row(request.kind, brief(body or f"{request.method} {target}"), f"{request.status} `{request.gets}`")
    for kind, raw in HARMLESS.items():
        yield row(kind, brief(raw.decode("latin-1").partition(" ")[2].partition(" ")[2]), "200, the answer")
    for kind, raw in (*GARBAGE.items(), *BROKEN_OFF.items()):
        yield row(kind, brief(raw.decode("latin-1")), "400 or more" if kind in GARBAGE else "nothing")
    for file in PRODUCED:
        yield row(file.kind, f"`{file.name}`", f"`{file.gets}`")
    for kind, (option, value, gets) in OPTIONS.items():
        yield row(kind, f"`{option} {value}`", f"`{gets}`")
    for home in HOMES:
        yield row(home.kind, f"`{home.gets}`")


def test_the_page_lists_what_the_tests_try() -> None:
    listed = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    headings = {"| kind |", "| --- |"}
    found = [line for line in listed if not any(line.startswith(heading) for heading in headings)]
    expected = list(rows_of_page())
    assert [line for line in expected if line not in found] == []
    assert found == expected


def test_there_are_more_than_forty_kinds_of_each_class_together_and_no_two_alike() -> None:
    rows = list(rows_of_page())
    assert len(rows) > 200
    assert len({row.split(" | ")[0] for row in rows}) > len(rows) - 15, "a kind may be found in two classes"
