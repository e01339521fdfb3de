"""In which form an answer goes out: by Accept and Accept-Encoding, and whether If-None-Match names it."""

from __future__ import annotations

import gzip

import pytest

from serving_layer.negotiate import PACKED_FROM, chosen_form, is_known, packed
from tideline.errors import UsageError


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, "json"),
        ("", "json"),
        ("*/*", "json"),
        ("application/json", "json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "json"),
        ("text/csv", "csv"),
        ("TEXT/CSV", "csv"),
        ("text/*", "csv"),
        ("application/json;q=0.2, text/csv;q=0.9", "csv"),
        ("application/vnd.apache.arrow.stream", "arrow"),
        ("application/vnd.apache.arrow.stream, application/json;q=0.5", "arrow"),
        ("*/*;q=0.1, application/vnd.apache.arrow.stream;q=0.2", "arrow"),
        ("application/*, application/json;q=0", "arrow"),
        ("x", "json"),
        ("\x80\xff;q=-1", "json"),
        ("application/json;q=nonsense, text/csv;q=0.1", "csv"),
    ],
)
def test_the_form_that_is_liked_best(accept: str | None, form: str) -> None:
    assert chosen_form(None, {} if accept is None else {b"accept": accept.encode("latin-1")}) == form


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0"])
def test_a_form_that_there_is_not_is_refused(accept: str) -> None:
    with pytest.raises(UsageError) as refused:
        chosen_form(None, {b"accept": accept.encode()})
    assert refused.value.condition == "NOT_ACCEPTABLE"
    assert "text/csv" in refused.value.params["known"]


def test_the_parameter_comes_before_accept() -> None:
    assert chosen_form("arrow", {b"accept": b"text/csv"}) == "arrow"


@pytest.mark.parametrize("encoding", ["gzip", "gzip, deflate, br", "br;q=1.0, gzip;q=0.8", "GZIP;q=0.5, gzip"])
def test_long_answers_are_packed(encoding: str) -> None:
    body = b"abc" * PACKED_FROM
    found, told = packed(body, {b"accept-encoding": encoding.encode()})
    assert told == {"Content-Encoding": "gzip"}
    assert len(found) < len(body)
    assert gzip.decompress(found) == body


@pytest.mark.parametrize("encoding", [None, "", "br", "gzip;q=0", "identity", "xgzip"])
def test_nobody_gets_what_they_cannot_unpack(encoding: str | None) -> None:
    body = b"abc" * PACKED_FROM
    assert packed(body, {} if encoding is None else {b"accept-encoding": encoding.encode()}) == (body, {})


def test_short_answers_are_not_worth_it() -> None:
    assert packed(b"abc", {b"accept-encoding": b"gzip"}) == (b"abc", {})


@pytest.mark.parametrize("known", ['W/"a-json"', '"a-json"', '"x", W/"a-json"', "*"])
def test_a_tag_that_is_named_is_known(known: str) -> None:
    assert is_known('W/"a-json"', {b"if-none-match": known.encode()})


@pytest.mark.parametrize("known", [None, "", '"b-json"', 'W/"a-csv"', "a-json"])
def test_other_tags_are_not(known: str | None) -> None:
    assert not is_known('W/"a-json"', {} if known is None else {b"if-none-match": known.encode()})
