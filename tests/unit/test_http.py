"""The HTTP API through the app: every route, every format, and one error shape for whatever goes wrong."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from serving import error, running
from serving_case import Installation, installed, naive, view

from serving_layer.app import PATHS, create_app
from serving_layer.query import OPTIONS
from serving_layer.reader import Reader
from serving_layer.responses import STATUS_OF_CONDITION
from tideline.cut import Cut
from tideline.runtime.logs import JsonFormatter
from tideline.stores.lmdb import LmdbStore


def test_the_views_and_one_of_them(client: httpx.Client) -> None:
    views = client.get("/v1/views").json()["views"]
    assert [view["name"] for view in views] == ["everything", "hourly", "revenue", "totals", "typed"]
    view = client.get("/v1/views/revenue").json()
    assert view == next(found for found in views if found["name"] == "revenue")
    assert view["key"] == [{"name": "country", "type": "string"}, {"name": "product", "type": "string"}]
    assert (view["bucket"], view["source"], view["topic"]) == ("1h", "sales", "sales")
    assert view["measures"]["revenue"]["type"] == "decimal(38,2)"
    assert view["measures"]["spread"]["bound"]["exact"] is False
    assert view["answers"]["return_rate"] == "returns / lines"


def test_rows_with_every_option(client: httpx.Client, served: Installation) -> None:
    params = {
        "country": "France",
        "from": "2011-12-01",
        "to": "2011-12-05",
        "window": "1d",
        "group_by": "country",
        "measures": "revenue,lines",
        "order": "-window",
        "limit": "2",
        "limit_by": "country:3",
        "timeout": "1",
        "parts": "true",
        "at_least": "sales:0=1",
    }
    answer = client.get("/v1/views/revenue/rows", params=params).json()
    assert answer["columns"] == ["country", "window", "revenue", "lines"]
    assert [row["window"] for row in answer["rows"]] == ["2011-12-04T00:00:00Z", "2011-12-03T00:00:00Z"]
    for row in answer["rows"]:
        events = [e for e in served.events if e.country == "France" and _day(e.at) == row["window"][:10]]
        expected = naive(events)
        assert (Decimal(row["revenue"]), row["lines"]) == (expected["revenue"], expected["lines"])
        sides = [side["lines"] for side in row["parts"].values() if side]
        assert sum(sides) == expected["lines"]
    assert answer["proof"]["events"] == {"batch": 100, "speed": 50}


def _day(micros: int) -> str:
    import datetime as dt

    return dt.datetime.fromtimestamp(micros / 1e6, dt.timezone.utc).strftime("%Y-%m-%d")


def test_null_and_empty_keys_are_two_keys(client: httpx.Client) -> None:
    null = client.get("/v1/views/totals/rows", params={"country": "\\N"}).json()["rows"]
    empty = client.get("/v1/views/totals/rows", params={"country": ""}).json()["rows"]
    assert [row["country"] for row in null + empty] == [None, ""]


def test_a_key_column_may_be_prefixed(client: httpx.Client) -> None:
    rows = client.get("/v1/views/totals/rows", params={"key.country": "Norway"}).json()["rows"]
    assert [row["country"] for row in rows] == ["Norway"]


def test_an_older_version(client: httpx.Client) -> None:
    answer = client.get("/v1/views/everything/rows", params={"version": 1}).json()
    assert answer["rows"][0]["lines"] == 50
    assert answer["proof"]["mode"] == "batch"


def test_csv_and_arrow_carry_the_proof(client: httpx.Client) -> None:
    whole = client.get("/v1/views/totals/rows").json()
    text = client.get("/v1/views/totals/rows", params={"format": "csv", "measures": "lines"})
    assert text.headers["content-type"].startswith("text/csv")
    assert text.text.splitlines()[0] == "country,lines"
    assert json.loads(text.headers["tideline-proof"])["cut"] == whole["proof"]["cut"]
    stream = client.get("/v1/views/totals/rows", params={"format": "arrow"})
    table = pa.ipc.open_stream(io.BytesIO(stream.content)).read_all()
    assert table["lines"].to_pylist() == [row["lines"] for row in whole["rows"]]
    assert json.loads(stream.headers["tideline-proof"])["version"] == 2


def test_ready_where_every_view_can_be_asked(client: httpx.Client) -> None:
    found = client.get("/readyz")
    assert (found.status_code, found.json()["ready"], found.json()["waiting"]) == (200, True, [])


def test_ready_while_a_changed_view_waits_and_not_while_a_new_one_does(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path, create=True) as store, Reader(tmp_path) as reader:
        made = installed(store, 30)
        for name, digits, ready in (("totals", "9", True), ("another", "8", False)):
            made.redefine(view(name, "country string", None, digits))
            found = reader.readiness()
            assert (found["ready"], name in found["waiting"]) == (ready, True)


def test_every_route_is_described(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == set(PATHS) - {"/", "/openapi.json"}
    options = {one["name"] for one in document["paths"]["/v1/views/{view}/rows"]["get"]["parameters"]}
    assert options == {*OPTIONS, "view", "key", "format"}


def test_several_queries_on_one_snapshot(client: httpx.Client, served: Installation) -> None:
    queries = [
        {"view": "revenue", "key": {"country": None}, "window": "all", "group_by": []},
        {"view": "totals", "key": {"country": None}, "measures": ["lines"], "order": ["-lines"], "limit": 1},
        {
            "view": "typed",
            "key": {"quantity": served.events[0].quantity},
            "at_least": {"sales": {"0": 1}},
        },
    ]
    results = client.post("/v1/query", json={"queries": queries}).json()["results"]
    assert results[0]["rows"][0]["lines"] == results[1]["rows"][0]["lines"]
    assert len({json.dumps(result["proof"]["cut"]) for result in results}) == 1
    assert {row["quantity"] for row in results[2]["rows"]} == {served.events[0].quantity}


def test_status_has_its_fields(client: httpx.Client) -> None:
    status = client.get("/v1/status").json()
    for name in (
        "ready",
        "kafka",
        "api",
        "committed",
        "archived",
        "published",
        "lag_events",
        "generations",
        "batch_version",
        "last_batch",
        "dead_letters",
        "duplicates",
        "retention_margin",
    ):
        assert name in status
    assert status["ready"] is False
    assert status["kafka"]["bootstrap"] is None
    assert "says where Kafka is" in status["kafka"]["error"]
    assert status["lag_events"] is None
    assert status["batch_version"] == 2
    assert status["dead_letters"] == {"sales": {"BAD_JSON": 3}}
    assert status["duplicates"] == {"sales": 3}
    assert status["last_batch"]["mode"] == "incremental"
    assert [generation["events"] for generation in status["generations"]] == [50]


def test_the_page_asks_nobody_else(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    links = [link for link in re.findall(r'(?:href|src)="([^"]+)"', page.text) if not link.startswith("#")]
    assert set(links) >= {"/page.js", "/page.css"}
    texts = [page.text]
    for link in links:  # which grow by what scripts import
        response = client.get(link)
        assert response.status_code == 200, link
        if not link.startswith("/vendor/"):  # whose licence has addresses; a browser asks for none of them
            texts.append(response.text)
            links += [
                found for found in re.findall(r'^import .* from "([^"]+)"', response.text, re.M) if found not in links
            ]
    assert {"/api.js", "/charts.js", "/views.js"} < set(links)
    outside = [found for text in texts for found in re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text)]
    assert set(outside) <= {"http://www.w3.org"}  # a name space, which nobody fetches
    assert "default-src 'self'" in page.headers["content-security-policy"]


def test_the_sample_of_the_documents_is_what_is_answered(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "http.md").read_text("utf-8")
    sample = re.search(r"\$ curl 'localhost:8400(/v1/views/[^']+)'\n(.*?)\n```", page, re.DOTALL)
    assert sample is not None
    with LmdbStore.open(tmp_path, create=True) as store:
        installed(store, 300)
        with Reader(tmp_path) as reader, running(create_app(reader)) as url:
            found = httpx.get(url + sample[1]).json()
    assert found.pop("next")
    expected = json.loads(sample[2])
    assert expected.pop("next") == "..."
    assert found == expected


def test_health(client: httpx.Client) -> None:
    assert client.get("/healthz").json()["ok"] is True


@pytest.mark.parametrize(
    ("path", "params", "status", "condition"),
    [
        ("/v1/views/nope", {}, 404, "UNKNOWN_VIEW"),
        ("/v1/views/nope/rows", {}, 404, "UNKNOWN_VIEW"),
        ("/v1/views/revenue/rows", {"version": "9"}, 404, "UNKNOWN_VERSION"),
        ("/v2", {}, 404, "UNKNOWN_PATH"),
        ("/v1/views/revenue/rows", {"windw": "1d"}, 400, "UNKNOWN_KEY"),
        ("/v1/views/revenue/rows", {"measures": "x"}, 400, "UNKNOWN_MEASURE"),
        ("/v1/views/revenue/rows", {"from": "x"}, 400, "BAD_TIME"),
        ("/v1/views/revenue/rows", {"window": "90m"}, 400, "BAD_WINDOW"),
        ("/v1/views/revenue/rows", {"format": "xml"}, 400, "BAD_VALUE"),
        ("/v1/views/revenue/rows", {"limit": "many"}, 400, "BAD_VALUE"),
        ("/v1/views/typed/rows", {"quantity": "x"}, 400, "BAD_VALUE"),
        (
            "/v1/views/revenue/rows",
            {"at_least": "sales:0=999999", "timeout": "0.05"},
            504,
            "AT_LEAST_TIMEOUT",
        ),
    ],
)
def test_errors_of_get(client: httpx.Client, path: str, params: Any, status: int, condition: str) -> None:
    error(client.get(path, params=params), status, condition)


def test_an_unknown_parameter_is_named_with_the_known_ones(client: httpx.Client) -> None:
    params = error(client.get("/v1/views/revenue/rows", params={"windw": "1d"}), 400, "UNKNOWN_KEY")
    assert params["key"] == "windw"
    assert params["similar"] == ["window"]
    assert params["known"] == ["country", "product"]
    assert "window" in params["options"]


def test_an_option_given_twice_is_refused_and_a_key_may_have_any_of_its_values(client: httpx.Client) -> None:
    response = client.get("/v1/views/revenue/rows?limit=1&limit=2")
    assert error(response, 400, "REPEATED_PARAMETER")["parameter"] == "limit"
    rows = client.get("/v1/views/totals/rows?country=France&country=Norway&key.country=\\N").json()["rows"]
    assert [row["country"] for row in rows] == [None, "France", "Norway"]


@pytest.mark.parametrize(
    ("body", "status", "condition"),
    [
        (b"{", 422, "BAD_REQUEST_BODY"),
        (b"", 422, "BAD_REQUEST_BODY"),
        (b"[]", 422, "BAD_REQUEST_BODY"),
        (b'{"queries": []}', 422, "BAD_REQUEST_BODY"),
        (b'{"queries": [1]}', 422, "BAD_REQUEST_BODY"),
        (b'{"queries": [{}], "x": 1}', 422, "BAD_REQUEST_BODY"),
        (b'{"queries": [{}]}', 400, "MISSING_VIEW"),
        (b'{"queries": [{"view": "revenue", "wndow": "1d"}]}', 400, "UNKNOWN_FIELD"),
        (b'{"queries": [{"view": "revenue", "key": 5}]}', 400, "BAD_VALUE"),
        (b'{"queries": [{"view": "revenue", "key": {"city": "x"}}]}', 400, "UNKNOWN_KEY"),
        (b'{"queries": [{"view": "nope"}]}', 404, "UNKNOWN_VIEW"),
        (b"\xff", 422, "BAD_REQUEST_BODY"),
    ],
)
def test_errors_of_post(client: httpx.Client, body: bytes, status: int, condition: str) -> None:
    headers = {"Content-Type": "application/json"}
    error(client.post("/v1/query", content=body, headers=headers), status, condition)


def test_other_methods_name_the_right_one(client: httpx.Client) -> None:
    response = client.post("/v1/views")
    assert error(response, 405, "METHOD_NOT_ALLOWED")["allowed"] == "GET"
    assert response.headers["allow"] == "GET"


def test_a_fault_of_our_own_has_the_same_shape(home: Path, served: Installation) -> None:
    with Reader(home) as reader:
        app = create_app(reader)

        @app.get("/fault")
        def fault() -> None:
            raise RuntimeError("secret")

        with running(app) as url:
            response = httpx.get(f"{url}/fault")
    assert "secret" not in response.text
    error(response, 500, "INTERNAL_FAULT")


def test_a_missing_segment_is_a_fault_that_names_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with LmdbStore.open(tmp_path, create=True) as store:
        installed(store, 30)
        with store.write() as txn:
            txn.drop(f"s{txn.ledger.version.views['b' * 16][0]}")
        with Reader(tmp_path) as reader, running(create_app(reader)) as url:
            response = httpx.get(f"{url}/v1/views/totals/rows")
    assert error(response, 500, "MISSING_SPACE")["space"].startswith("s")
    (record,) = (record for record in caplog.records if record.name == "serving_layer.app")
    line = json.loads(JsonFormatter().format(record))
    assert (line["condition"], line["layer"]) == ("MISSING_SPACE", "serve")
    assert Cut.parse(line["cut"]).topics() == ("sales",)


def test_every_status_code_is_in_one_table() -> None:
    assert set(STATUS_OF_CONDITION.values()) <= {400, 401, 403, 404, 405, 406, 413, 422, 429, 503, 504}
    assert "/v1/views/{view}/rows" in PATHS


def test_serving_starts_no_jvm(home: Path, served: Installation) -> None:
    script = """
import json, sys, threading, urllib.request
import uvicorn
import tideline
from serving_layer.app import create_app
from serving_layer.server import address_of, bind

with tideline.open(sys.argv[1]) as reader, bind("127.0.0.1", 0) as listener:
    server = uvicorn.Server(uvicorn.Config(create_app(reader), log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    url = address_of(listener, "127.0.0.1") + "/v1/views/totals/rows"
    rows = json.load(urllib.request.urlopen(url))["rows"]
    server.should_exit = True
    thread.join()
    reader.view("revenue").get(window="1d", country="France").to_pandas()
print(len(rows), any(name.split(".")[0] in ("pyspark", "py4j", "delta") for name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script, str(home)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4", "False"]
