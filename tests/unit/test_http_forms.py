"""Rows over HTTP: in which form, packed, page by page, or not at all where nothing changed."""

from __future__ import annotations

import io
from pathlib import Path

import httpx
import pyarrow as pa
from serving import error, running
from serving_case import Installation, make_events

from serving_layer.app import create_app
from serving_layer.reader import Reader
from tideline.stores.lmdb import LmdbStore


def test_accept_says_in_which_form(client: httpx.Client) -> None:
    text = client.get("/v1/views/totals/rows", headers={"Accept": "text/csv"})
    assert text.headers["content-type"].startswith("text/csv")
    stream = client.get("/v1/views/totals/rows", headers={"Accept": "application/vnd.apache.arrow.stream"})
    assert pa.ipc.open_stream(io.BytesIO(stream.content)).read_all().num_rows == 4
    refused = client.get("/v1/views/totals/rows", headers={"Accept": "image/png"})
    assert "text/csv" in error(refused, 406, "NOT_ACCEPTABLE")["known"]


def test_long_answers_go_out_packed(client: httpx.Client) -> None:
    plain = client.get("/v1/views/revenue/rows", headers={"Accept-Encoding": "identity"})
    gzipped = client.get("/v1/views/revenue/rows", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert gzipped.headers["content-encoding"] == "gzip"
    assert int(gzipped.headers["content-length"]) < int(plain.headers["content-length"]) / 3
    assert gzipped.json()["rows"] == plain.json()["rows"]
    assert gzipped.headers["vary"] == "Accept, Accept-Encoding, Authorization"


def test_pages_over_http(client: httpx.Client) -> None:
    whole = client.get("/v1/views/revenue/rows").json()
    found, params = [], {"limit": "7"}
    while True:
        page = client.get("/v1/views/revenue/rows", params=params).json()
        found += page["rows"]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert found == whole["rows"]
    assert whole["next"] is None
    text = client.get("/v1/views/revenue/rows", params={"limit": "7", "format": "csv"})
    more = client.get("/v1/views/revenue/rows", params={"cursor": text.headers["tideline-next"], "limit": "1"}).json()
    assert more["rows"] == whole["rows"][7:8]


def test_a_tag_follows_the_cut(tmp_path: Path) -> None:
    events = make_events(40)
    with LmdbStore.open(tmp_path, create=True) as store:
        made = Installation(store)
        made.commit(events[:20])
        made.publish()
        with Reader(tmp_path) as reader, running(create_app(reader)) as url, httpx.Client(base_url=url) as client:
            first = client.get("/v1/views/totals/rows")
            known = {"If-None-Match": first.headers["etag"]}
            same = client.get("/v1/views/totals/rows", headers=known)
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first.headers["etag"])
            assert client.get("/v1/views/totals/rows", params={"format": "csv"}, headers=known).status_code == 200
            covered = {"at_least": "sales:0=1"}
            assert client.get("/v1/views/totals/rows", params=covered, headers=known).status_code == 304
            made.commit(events[20:])
            other = client.get("/v1/views/totals/rows", headers=known)
            assert other.status_code == 200
            assert other.headers["etag"] != first.headers["etag"]
            assert sum(row["lines"] for row in other.json()["rows"]) == 40
            made.publish()
            assert (
                client.get("/v1/views/totals/rows", headers={"If-None-Match": other.headers["etag"]}).status_code == 200
            )
