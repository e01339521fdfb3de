"""Bad requests over HTTP, as parameters and as raw bytes, each with its status and condition."""

from __future__ import annotations

import json
from typing import NamedTuple


class BadRequest(NamedTuple):
    """A request whose answer has the one error shape. `target` is as it stands on the request line."""

    kind: str
    target: str
    status: int
    gets: str
    method: str = "GET"
    body: bytes | None = None


def rows(kind: str, params: str, gets: str, status: int = 400, view: str = "revenue") -> BadRequest:
    """A query by parameters; `revenue` has the keys country and product, and buckets of an hour."""
    return BadRequest(kind, f"/v1/views/{view}/rows?{params}", status, gets)


def post(kind: str, query: str | bytes, gets: str, status: int = 400) -> BadRequest:
    """A query in JSON, or a whole body in bytes."""
    body = query if isinstance(query, bytes) else f'{{"queries": [{query}]}}'.encode()
    return BadRequest(kind, "/v1/query", status, gets, "POST", body)


NAMES = [
    rows("an unknown view", "", "UNKNOWN_VIEW", 404, "revenues"),
    rows("a view that climbs", "", "UNKNOWN_VIEW", 404, "%2e%2e%5cledger"),
    rows("a view whose name is no UTF-8", "", "UNKNOWN_VIEW", 404, "%ff%fe"),
    rows("a NUL for a view", "", "UNKNOWN_VIEW", 404, "%00"),
    rows("an unknown measure", "measures=profit", "UNKNOWN_MEASURE"),
    rows("a measure twice", "measures=lines,lines", "BAD_VALUE"),
    rows("an unknown key column", "city=Oslo", "UNKNOWN_KEY"),
    rows("an unknown group", "group_by=city", "UNKNOWN_KEY"),
    rows("an unknown order", "order=-profit", "BAD_ORDER"),
    rows("an order by what has none", "order=products", "BAD_ORDER"),
    rows("an order of 17 terms", f"order={','.join(f'products.{number}' for number in range(17))}", "BAD_ORDER"),
    rows("a parameter twice", "limit=1&limit=2", "REPEATED_PARAMETER"),
    rows("a parameter without a name", "=1", "UNKNOWN_KEY"),
    rows("10,101 parameters", "a=&" * 10_101, "TOO_MANY_PARAMETERS"),
    rows("percent signs that encode nothing", "%zz=%", "UNKNOWN_KEY"),
    rows("a parameter of 60 kB", "x" * 60_000 + "=1", "UNKNOWN_KEY"),
    BadRequest("an unknown path", "/v1/tables", 404, "UNKNOWN_PATH"),
    BadRequest("a path with a slash behind it", "/v1/views/", 404, "UNKNOWN_PATH"),
    BadRequest("a path that climbs", "/../../etc/passwd", 404, "UNKNOWN_PATH"),
]
VALUES = [
    rows("a time in words", "from=yesterday", "BAD_TIME"),
    rows("a zone that is none", "from=2011-12-01T00:00:00%2B99:00", "BAD_TIME"),
    rows("a time within a bucket", "from=2011-12-01T00:30:00", "BAD_TIME"),
    rows("from after to", "from=2011-12-02&to=2011-12-01", "BAD_TIME"),
    rows("a window that is no multiple", "window=90m", "BAD_WINDOW"),
    rows("a window of nothing", "window=0s", "BAD_WINDOW"),
    rows("a window without its unit", "window=24", "BAD_DURATION"),
    rows("a window of a million years", "window=365000000d", "BAD_DURATION"),
    rows("a window of 5,000 digits", f"window={'9' * 5000}h", "BAD_DURATION"),
    rows("a slide without a window", "slide=1h", "BAD_WINDOW"),
    rows("a slide beyond its window", "window=1h&slide=2h", "BAD_WINDOW"),
    rows("401 windows for each bucket", "window=401h&slide=1h", "BAD_WINDOW"),
    rows("a time of a view without buckets", "from=2011-12-01", "NO_BUCKET", view="totals"),
    rows("a limit below zero", "limit=-1", "BAD_VALUE"),
    rows("a limit that is no number", "limit=NaN", "BAD_VALUE"),
    rows("a limit of 5,000 digits", f"limit={'9' * 5000}", "BAD_VALUE"),
    rows("a limit by nothing", "limit_by=3", "BAD_VALUE"),
    rows("a limit by no column", "limit_by=city:3", "BAD_LIMIT_BY"),
    rows("a limit by a column twice", "limit_by=country,country:3", "BAD_VALUE"),
    rows("a limit by zero", "limit_by=country:0", "BAD_VALUE"),
    rows("a cut that is none", "at_least=junk", "BAD_CUT"),
    rows("a cut with a partition twice", "at_least=sales:0=1,0=2", "BAD_CUT"),
    rows("a cut of an unknown topic", "at_least=visits:0=1&timeout=9", "UNKNOWN_TOPIC"),
    rows("a cut that does not come", "at_least=sales:0=999999&timeout=0.05", "AT_LEAST_TIMEOUT", 504),
    rows("a version that is not there", "version=999", "UNKNOWN_VERSION", 404),
    rows("a version below zero", "version=-1", "BAD_VALUE"),
    rows("patience without end", "timeout=inf", "BAD_VALUE"),
    rows("an unknown format", "format=xml", "BAD_VALUE"),
    rows("parts perhaps", "parts=perhaps", "BAD_VALUE"),
    rows("a text for a number's key", "quantity=three", "BAD_VALUE", view="typed"),
    rows("a key beyond its type", "quantity=2147483648", "BAD_VALUE", view="typed"),
    rows("an endless decimal", "amount=1e999999999", "BAD_VALUE", view="typed"),
]
POSTS = [
    post("no JSON", b'{"queries": [', "BAD_REQUEST_BODY", 422),
    post("no body", b"", "BAD_REQUEST_BODY", 422),
    post("a body that is no UTF-8", b"\xff", "BAD_REQUEST_BODY", 422),
    post("100,000 brackets", b"[" * 100_000, "BAD_REQUEST_BODY", 422),
    post(
        "a number of 5,000 digits",
        b'{"queries": [{"view": "totals", "limit": ' + b"9" * 5000 + b"}]}",
        "BAD_REQUEST_BODY",
        422,
    ),
    post("no queries", b'{"queries": []}', "BAD_REQUEST_BODY", 422),
    post("101 queries", ", ".join(['{"view": "totals"}'] * 101), "BAD_REQUEST_BODY", 422),
    post("a body of 20 MB", b'{"queries": ["' + b"x" * 20_000_000 + b'"]}', "BODY_TOO_LARGE", 413),
    post("a query without a view", "{}", "MISSING_VIEW"),
    post("an unknown field", '{"view": "totals", "wndow": "1d"}', "UNKNOWN_FIELD"),
    post("half a surrogate pair for a view", '{"view": "\\ud800"}', "UNKNOWN_VIEW", 404),
    post("half a surrogate pair for a key", '{"view": "totals", "key": {"country": "\\ud800"}}', "BAD_VALUE"),
    post("a list in a list of keys", '{"view": "totals", "key": {"country": [[]]}}', "BAD_VALUE"),
    post("10,001 keys", json.dumps({"view": "totals", "key": {"country": ["x"] * 10_001}}), "TOO_MANY_KEYS"),
    post(
        "10,001 keys beside none",
        json.dumps({"view": "typed", "key": {"quantity": [], "amount": ["x"] * 10_001}}),
        "TOO_MANY_KEYS",
    ),
    post("an offset below zero", '{"view": "totals", "at_least": {"sales": {"0": -1}}}', "BAD_CUT"),
    post(
        "a cut of 10,001 partitions",
        json.dumps({"view": "totals", "at_least": {"sales": {str(number): 0 for number in range(10_001)}}}),
        "BAD_CUT",
    ),
    post("half an offset", '{"view": "totals", "at_least": {"sales": {"0": 1.5}}}', "BAD_CUT"),
    post("a timeout beyond all doubles", json.dumps({"view": "totals", "timeout": 10**400}), "BAD_VALUE"),
    post("a window beyond all doubles", json.dumps({"view": "hourly", "window": 10**400}), "BAD_DURATION"),
    post("one of two that is wrong", '{"view": "totals"}, {"view": "totals", "limit": -1}', "BAD_VALUE"),
]
METHODS = [
    BadRequest("a method that reads cannot take", "/v1/views", 405, "METHOD_NOT_ALLOWED", "DELETE"),
    BadRequest("a method that there is not", "/v1/views", 405, "METHOD_NOT_ALLOWED", "BREW"),
    BadRequest("a GET of what is posted", "/v1/query", 405, "METHOD_NOT_ALLOWED"),
]
REQUESTS = [*NAMES, *VALUES, *POSTS, *METHODS]

GET = b"GET /v1/views/totals/rows?measures=lines "
HARMLESS = {
    "a body on a GET": GET + b"HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 4\r\n\r\njunk",
    "an Accept of something else": GET
    + b"HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: \x80\xff;q=-1\r\n\r\n",
    "20,000 headers": GET + b"HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
    "HTTP/9": GET + b"HTTP/9.9\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "HTTP/1.0": GET + b"HTTP/1.0\r\n\r\n",
}
"""Raw requests that are answered all the same."""
GARBAGE = {
    "bytes that are no HTTP": b"\x00\xff\x16\x03\x01\x02\x00\x01" * 20 + b"\r\n\r\n",
    "a request line of 1 MB": b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a header of 1 MB": GET + b"HTTP/1.1\r\nHost: localhost\r\nA: " + b"b" * 1_000_000 + b"\r\n\r\n",
    "two lengths": GET + b"HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a length below zero": GET + b"HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "letters beyond ASCII in the path": b"GET /v1/views/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "chunks that are none": GET + b"HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}
"""Raw bytes that are refused with a status of 400 and more."""
BROKEN_OFF = {
    "a request that breaks off": GET[:20],
    "a body that breaks off": b"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
}
"""Raw bytes after which the other side is gone."""
