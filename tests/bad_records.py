"""Bad records, each with the reason of its dead letter; and odd ones that are events all the same."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import zlib
from typing import Any, NamedTuple

SCHEMA = (
    "id string, kind string, amount decimal(10,2), quantity int, total bigint, score double, flag boolean, day date, "
    "raw binary, at timestamp"
)
NOW = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
Headers = tuple[tuple[str, bytes], ...]


class BadRecord(NamedTuple):
    """A record and what it gets: the reason of a dead letter, or EVENT."""

    kind: str
    value: bytes | None
    gets: str
    key: bytes | None = None
    headers: Headers = ()


EVENT = "counted"


def text(**changes: Any) -> str:
    """A good event with other fields, as JSON."""
    return json.dumps({"id": "one", "kind": "buy", "amount": 1.5, "quantity": 2, "at": NOW.isoformat(), **changes})


def raw(field: str, spelled: str) -> bytes:
    """A good event whose field is spelled so."""
    return text(**{field: "?"}).replace('"?"', spelled).encode()


def but(**changes: Any) -> bytes:
    """A good event with other fields, whose id is that of nothing else."""
    return text(**{"id": f"but-{zlib.crc32(repr(changes).encode())}", **changes}).encode()


NO_JSON = [
    BadRecord("a tombstone", None, "empty value", b"gone"),
    BadRecord("a tombstone of an empty key", None, "empty value", b""),
    BadRecord("no bytes", b"", "empty value"),
    BadRecord("white space", b" \r\n\t", "not JSON"),
    BadRecord("a truncated object", b'{"id": "a", "kind"', "not JSON"),
    BadRecord("trailing garbage", text().encode() + b" x", "not JSON"),
    BadRecord("two objects", text().encode() + b"\n" + text().encode(), "not JSON"),
    BadRecord("a trailing comma", text().encode()[:-1] + b",}", "not JSON"),
    BadRecord("quotes of another kind", b"{'id': 'a'}", "not JSON"),
    BadRecord("a comment", b'{"id": "a" /* the id */}', "not JSON"),
    BadRecord("a control character in a text", b'{"kind": "\x01"}', "not JSON"),
    BadRecord("a NUL after the value", text().encode() + b"\0", "not JSON"),
    BadRecord("a byte order mark", b"\xef\xbb\xbf" + text().encode(), "not JSON"),
    BadRecord("UTF-16", text().encode("utf-16"), "not UTF-8"),
    BadRecord("UTF-16 without its mark", text().encode("utf-16-le"), "not JSON"),
    BadRecord("Latin 1", b'{"kind": "caf\xe9"}', "not UTF-8"),
    BadRecord("an overlong form", b'{"kind": "\xc0\x80"}', "not UTF-8"),
    BadRecord("a surrogate in UTF-8", b'{"kind": "\xed\xa0\x80"}', "not UTF-8"),
    BadRecord("gzip", gzip.compress(text().encode()), "not UTF-8"),
    BadRecord("Avro of a schema registry", b"\0\0\0\0\x07\x02a\x80\xff", "not UTF-8"),
    BadRecord("CSV", b"a,buy,1.50,2", "not JSON"),
    BadRecord("XML", b"<event id='a'/>", "not JSON"),
]
NO_OBJECT = [
    BadRecord("null", b"null", "not a JSON object"),
    BadRecord("an array", b"[" + text().encode() + b"]", "not a JSON object"),
    BadRecord("a number", b"1", "not a JSON object"),
    BadRecord("a text that holds JSON", json.dumps(text()).encode(), "not a JSON object"),
    BadRecord("a field twice", b'{"id": "a", "id": "b"}', "repeated field"),
    BadRecord("a field twice, once escaped", b'{"id": "a", "\\u0069d": "b"}', "repeated field"),
    BadRecord("a field twice further in", b'{"id": "a", "x": [{"y": 1, "y": 1}]}', "repeated field"),
    BadRecord("100,000 brackets", b"[" * 100_000, "nested too deeply"),
    BadRecord("objects 101 deep", b'{"a":' * 101 + b"1" + b"}" * 101, "nested too deeply"),
    BadRecord("a text of 10 MB", but(kind="x" * 10_000_000), "larger than 1048576 bytes"),
    BadRecord("NaN", raw("score", "NaN"), "not JSON: NaN is not a number"),
    BadRecord("Infinity where nothing reads it", raw("other", "-Infinity"), "not JSON: -Infinity is not a number"),
    BadRecord("5,000 digits", raw("other", "9" * 5000), "a number is too long"),
]
VALUES = [
    BadRecord("a text for a number", but(quantity="2"), "quantity: not a value of type int"),
    BadRecord("a fraction for a whole number", but(quantity=2.5), "quantity: not a value of type int"),
    BadRecord("a whole number with a point", raw("quantity", "2.0"), "quantity: not a value of type int"),
    BadRecord("true for a number", but(quantity=True), "quantity: not a value of type int"),
    BadRecord("an array for a number", but(quantity=[2]), "quantity: not a value of type int"),
    BadRecord("a number beyond 32 bits", but(quantity=2**31), "quantity: outside the range of int"),
    BadRecord("a number beyond 64 bits", but(total=2**63), "total: outside the range of bigint"),
    BadRecord("1e999", raw("score", "1e999"), "score: outside the range of double"),
    BadRecord("too many decimals", but(amount=1.005), "amount: more decimals than decimal(10,2)"),
    BadRecord("too many digits", but(amount=10**8), "amount: outside the range of decimal(10,2)"),
    BadRecord("a decimal with a comma", but(amount="1,50"), "amount: not a value of type decimal(10,2)"),
    BadRecord("a decimal in Arabic digits", but(amount="١"), "amount: not a value of type decimal(10,2)"),
    BadRecord("a number for a text", but(kind=7), "kind: not a value of type string"),
    BadRecord("an object for a text", but(kind={}), "kind: not a value of type string"),
    BadRecord("half a surrogate pair", raw("kind", '"\\ud800"'), "kind: text with half a surrogate pair"),
    BadRecord("yes for true", but(flag="yes"), "flag: not a value of type boolean"),
    BadRecord("1 for true", but(flag=1), "flag: not a value of type boolean"),
    BadRecord("the 30th of February", but(day="2026-02-30"), "day: not a value of type date"),
    BadRecord("base64 without its padding", but(raw="YQ"), "raw: not a value of type binary"),
]
TIMES = [
    BadRecord("a time in words", but(at="yesterday"), "at: not a value of type timestamp"),
    BadRecord("a time in milliseconds", but(at=1_323_435_600_000), "at: not a value of type timestamp"),
    BadRecord("a leap second", but(at="2016-12-31T23:59:60Z"), "at: not a value of type timestamp"),
    BadRecord("24 o'clock", but(at="2016-12-31T24:00:00Z"), "at: not a value of type timestamp"),
    BadRecord("the year 10000", but(at="10000-01-01T00:00:00Z"), "at: not a value of type timestamp"),
    BadRecord("the year 0", but(at="0000-01-01T00:00:00Z"), "at: not a value of type timestamp"),
    BadRecord("before year 1 by its zone", but(at="0001-01-01T00:00:00+14:00"), "at: outside the range of timestamp"),
    BadRecord("a time that is null", but(at=None), "missing event time"),
    BadRecord("no time", b'{"id": "a"}', "missing event time"),
    BadRecord("the year 2099", but(at="2099-01-01T00:00:00Z"), "event time too far ahead of the record's"),
]
IDS = [
    BadRecord("an id that is null", but(id=None), "missing event id"),
    BadRecord("no id", json.dumps({"at": NOW.isoformat()}).encode(), "missing event id"),
    BadRecord("an id in another case", json.dumps({"ID": "a", "at": NOW.isoformat()}).encode(), "missing event id"),
    BadRecord("an empty object", b"{}", "missing event time"),
    BadRecord("a number for an id", but(id=7), "id: not a value of type string"),
]
ODD = [
    BadRecord("an empty id", but(id=""), EVENT),
    BadRecord("an id of 10 kB", but(id="x" * 10_000), EVENT),
    BadRecord("a time without a zone", but(at="2020-02-29T12:00:00"), EVENT),
    BadRecord("the first moment of year 1", but(at="0001-01-01T00:00:00Z"), EVENT),
    BadRecord("the year 1900", but(at="1900-01-01T00:00:00Z"), EVENT),
    BadRecord("-0", but(quantity=0, score=0).replace(b": 0", b": -0"), EVENT),
    BadRecord("more zeros than decimals", raw("amount", "1.5000").replace(b'"one"', b'"zeros"'), EVENT),
    BadRecord("NUL in a group's key", but(kind="a\0b"), EVENT),
    BadRecord("a group's key of 600 bytes", but(kind="k" * 600), EVENT),
    BadRecord("another that begins alike", but(kind="k" * 599 + "l"), EVENT),
    BadRecord("a group's key of 1 MB", but(kind="k" * 1_000_000), EVENT),
    BadRecord("characters beyond 16 bits", but(kind="𝒳\u2028\ufffe"), EVENT),
    BadRecord("20,000 unknown fields", but(**{f"f{n}": n for n in range(20_000)}), EVENT),
    BadRecord("white space around", b" \n" + but(kind="padded") + b"\r\n", EVENT),
    BadRecord("a key that is no text", but(kind="key"), EVENT, b"\xff\xfe\x00"),
    BadRecord("a key of 100 kB", but(kind="long key"), EVENT, b"k" * 100_000),
    BadRecord("a header that is no text", but(kind="header"), EVENT, None, (("h", b"\xff\xfe"),)),
    BadRecord("an empty header, and the same again", but(kind="headers"), EVENT, None, (("", b""), ("", b""))),
    BadRecord("bytes that are no text", but(kind="raw", raw="//79"), EVENT),
]
RECORDS = [*NO_JSON, *NO_OBJECT, *VALUES, *TIMES, *IDS, *ODD]
