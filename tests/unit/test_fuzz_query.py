"""Any query over HTTP or the command line is answered or refused in the one shape; nothing is ever a fault of ours."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from fuzzing import fuzz
from hypothesis import example, given
from hypothesis import strategies as st
from serving import running
from serving_case import ANSWERS, MEASURES, VIEWS, Installation

from serving_layer.app import create_app
from serving_layer.query import QUERY_FIELDS
from serving_layer.reader import Reader
from tideline.cli.main import main

HUGE = ["9" * 30, "-" + "9" * 400, "9" * 5000, "1" + "0" * 308, "1e400", "1e999999999", "-1", "0", "1_0", "١", "nan"]
JUNK = st.one_of(
    st.sampled_from(["", " ", ",", ":", "=", "\\N", "\x00", "\ud800", "null", "true", "-", "--", "*", "%", "é", *HUGE]),
    st.text(max_size=6),
)
COLUMNS = ["country", "product", "quantity", "amount", "sold_at", "bucket", "window", *MEASURES, *ANSWERS]
NAMES = st.lists(
    st.one_of(st.sampled_from([*COLUMNS, "best.cup", "spread.p50", "products.lamp", "products."]), JUNK), max_size=3
)
LENGTHS = st.builds(
    "{}{}".format,
    st.one_of(st.integers(0, 48), st.sampled_from([-1, 10**6, 10**12, 10**30])),
    st.sampled_from(["h", "d", "m", "us", "s", "w", ""]),
)
TIMES = st.one_of(
    st.datetimes().map(str),
    st.dates().map(str),
    st.builds(
        "2011-12-0{}T{:02}:00:00{}".format,
        st.integers(0, 9),
        st.integers(0, 24),
        st.sampled_from(["Z", "+14:00", "+99:00", ""]),
    ),
    st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-14:00", "0000-01-01", "2011-12-01", "infinity"]),
)
CUTS = st.builds(
    "{}:{}={}".format,
    st.sampled_from(["sales", "sales", "other", "", "sales:sales"]),
    st.one_of(st.integers(-1, 3), JUNK),
    st.one_of(st.integers(-1, 200), st.sampled_from(HUGE)),
)
NUMBERS = st.one_of(st.integers(-1, 5).map(str), st.sampled_from(HUGE))
OPTION = {
    "from": TIMES,
    "to": TIMES,
    "window": st.one_of(LENGTHS, st.just("all")),
    "slide": LENGTHS,
    "group_by": st.one_of(NAMES.map(",".join), st.just("none")),
    "measures": NAMES.map(",".join),
    "order": NAMES.map(lambda names: ",".join(f"-{name}" for name in names)),
    "limit": NUMBERS,
    "limit_by": st.builds("{}:{}".format, NAMES.map(",".join), NUMBERS),
    "at_least": st.lists(CUTS, max_size=3).map(",".join),
    "version": NUMBERS,
    "parts": st.sampled_from(["true", "0", "maybe"]),
    "format": st.sampled_from(["json", "csv", "arrow", "xml"]),
    "country": st.sampled_from(["France", "\\N", ""]),
    "quantity": NUMBERS,
    "amount": st.one_of(NUMBERS, st.sampled_from(["1.50", "1e-9", "sNaN", "-Infinity"])),
    "sold_at": TIMES,
    "key.country": JUNK,
}
TIMEOUTS = st.sampled_from(["0", "0.001", "-1", "301", "nan", "1e400", "9" * 400, "", "x"])
VIEW = st.one_of(st.sampled_from([view.name for view in VIEWS] * 3 + [".", "..", "a/b"]), JUNK)


@st.composite
def options(draw: st.DrawFn, hostile: bool = True) -> dict[str, str]:
    """Some options, each with a value of its kind or, one time in five, with any text; and some that there are not."""
    names = draw(st.lists(st.sampled_from([*OPTION]), max_size=4, unique=True))
    found = {name: draw(JUNK if hostile and draw(st.integers(0, 4)) == 0 else OPTION[name]) for name in names}
    if hostile and draw(st.integers(0, 9)) == 0:
        found[draw(JUNK)] = draw(JUNK)
    return {**found, "timeout": draw(TIMEOUTS) if "at_least" in found or draw(st.booleans()) else "0"}


@pytest.fixture(scope="module")
def server(home: Path, served: Installation) -> Iterator[http.client.HTTPConnection]:
    with Reader(home) as reader, running(create_app(reader)) as url:
        yield http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)


def ask(server: http.client.HTTPConnection, method: str, target: str, body: bytes | None = None) -> Any:
    """The status; whatever is no answer has the one error shape, and is the asker's to correct."""
    server.request(method, target, body, {"Content-Type": "application/json"})
    response = server.getresponse()
    content = response.read()
    if response.status == 200:
        return 200
    found = json.loads(content)["error"]
    assert sorted(found) == ["condition", "hint", "message", "params"], found
    assert response.status < 500 or found["condition"] in ("AT_LEAST_TIMEOUT", "KAFKA_UNKNOWN"), found
    return response.status


def encoded(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


@fuzz(200)
@given(view=VIEW, given=options())
@example(view="hourly", given={"window": "100000000d"})
@example(view="hourly", given={"window": "1" + "0" * 308 + "d", "slide": "1h"})
def test_any_parameters_of_a_get_are_answered_or_refused(server: Any, view: str, given: dict[str, str]) -> None:
    text = "&".join(f"{encoded(name)}={encoded(value)}" for name, value in given.items())
    ask(server, "GET", f"/v1/views/{encoded(view)}/rows?{text}")


@fuzz(100)
@given(raw=st.text("abcdeflimtf%=&+;?#/.:-_09FGz", max_size=40))
def test_any_query_string_is_answered_or_refused(server: Any, raw: str) -> None:
    ask(server, "GET", "/v1/views/totals/rows?" + raw.replace("#", "%23"))


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.sampled_from([10**400, -(10**400), 2**63, 1e308, 0.5, float("nan"), float("inf"), -0.0]),
    JUNK,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(JUNK, inner, max_size=2)),
    max_leaves=6,
)
CUT_JSON = st.dictionaries(
    st.sampled_from(["sales", "x"]), st.dictionaries(st.sampled_from(["0", "1", "-1", "x"]), SCALARS)
)


@st.composite
def queries(draw: st.DrawFn) -> dict[str, Any]:
    """One query of a POST: fields as the API takes them, or any JSON in their place."""
    found: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(QUERY_FIELDS), max_size=4, unique=True)):
        found[name] = draw(st.one_of(VALUES, CUT_JSON) if name == "at_least" else VALUES)
    key = st.dictionaries(st.sampled_from(["country", "quantity", "amount", "sold_at"]), VALUES, max_size=2)
    if draw(st.booleans()):
        found["key"] = draw(key)
    timeout = draw(st.one_of(st.just(0), st.sampled_from([10**400, -1, True, None, [], "x", float("nan")])))
    return {
        "view": draw(st.one_of(st.sampled_from([view.name for view in VIEWS]), SCALARS)),
        **found,
        "timeout": timeout,
    }


@fuzz(200)
@given(st.lists(queries(), max_size=2))
@example([{"view": "totals", "key": {"country": "\ud800"}}])
@example([{"view": "\ud800"}])
def test_any_body_of_a_post_is_answered_or_refused(server: Any, found: list[dict[str, Any]]) -> None:
    ask(server, "POST", "/v1/query", json.dumps({"queries": found}).encode())


@fuzz(100)
@given(st.one_of(st.binary(max_size=30), VALUES.map(json.dumps).map(str.encode)))
@example(b"[" * 100_000)
@example(b'{"queries":[{"view":"totals","limit":' + b"9" * 5000 + b"}]}")
def test_any_bytes_posted_are_answered_or_refused(server: Any, body: bytes) -> None:
    assert ask(server, "POST", "/v1/query", body) in (200, 400, 404, 422)


@fuzz(150)
@given(view=VIEW, given=options(), form=st.sampled_from(["json", "csv", "table"]))
@example(view="totals", given={"country": "\udcff"}, form="json")
@example(view="\udcff", given={}, form="table")
def test_any_query_on_the_command_line_is_answered_or_refused(
    home: Path, served: Installation, view: str, given: dict[str, str], form: str
) -> None:
    words = ["query", "--home", str(home), "-o", form]
    for name, value in given.items():
        column = name in ("country", "quantity", "amount", "sold_at", "format") or (
            name not in OPTION and name != "timeout"
        )
        words.append(f"{name}={value}" if column else f"--{name.replace('_', '-')}={value}")
    code, said = run([*words, view])
    assert code in (0, 2) or (code == 3 and "the answer reaches" in said), said
    assert len(said.splitlines()) == (code != 0), said


def run(words: list[str]) -> tuple[int, str]:
    """A command's exit code and what it says on stderr, where stdout and stderr take UTF-8 only."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    err.seek(0)
    return code, err.read()
