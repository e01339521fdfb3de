"""Every route, asked by what its description allows and by what it does not: no fault, nothing undescribed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from cases import make_events
from hypothesis import HealthCheck, settings
from installed import Installed
from pyspark.sql import SparkSession
from serving import running

from serving_layer.app import create_app
from serving_layer.openapi import openapi
from serving_layer.reader import Reader

SCHEMA = schemathesis.openapi.from_dict(openapi())
STREAM = "/v1/views/{view}/changes"
fuzz = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
TOO_STRICT = [schemathesis.checks.CHECKS.get_one("positive_data_acceptance")]
"""A request may fit its description and be wrong all the same: a view that is not there, a window that does not fit."""


@pytest.fixture(scope="module")
def url(spark: SparkSession, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    installed = Installed(spark, kafka, tmp_path_factory.mktemp("openapi") / "home", "t-openapi")
    try:
        installed.apply_few()
        installed.send([*make_events(40, seed=1), b"not json"])
        installed.batch()
        installed.home.write_status("speed", {"ready": True, "bootstrap": kafka})
        with Reader(installed.home, store=installed.store) as reader:
            app = create_app(reader)
            with running(app) as url:
                yield url
            app.state.intake.close()
            app.state.sql.close()
            app.state.verifier.close()
    finally:
        installed.close()


@pytest.mark.filterwarnings("ignore:Skipped test cases with unsupported payload")  # JSON lines
@SCHEMA.exclude(path=STREAM).parametrize()
@fuzz
def test_a_route_answers_as_it_is_described(case: Any, url: str) -> None:
    for options in (case.query, case.body, *_queries(case.body)):
        if isinstance(options, dict) and _is_wait(options.get("timeout")):
            options["timeout"] = 1 if options.get("sql") is None else 20
    case.call_and_validate(base_url=url, excluded_checks=TOO_STRICT, timeout=60)


@SCHEMA.include(path=STREAM).parametrize()
@fuzz
def test_a_stream_begins_as_it_is_described(case: Any, url: str) -> None:
    with requests.request(**case.as_transport_kwargs(base_url=url), stream=True, timeout=60) as response:
        if case.method != "GET":
            assert response.status_code == 405
            return
        assert str(response.status_code) in openapi()["paths"][STREAM]["get"]["responses"], response.status_code
        assert response.status_code < 500
        if response.status_code == 200:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert next(response.iter_lines()).startswith(b"event: ")


def _is_wait(timeout: Any) -> bool:
    """Whether it is a time that may be waited for."""
    return isinstance(timeout, (int, float)) and not isinstance(timeout, bool) and 0 <= timeout <= 300


def _queries(body: Any) -> list[Any]:
    found = body.get("queries") if isinstance(body, dict) else None
    return found if isinstance(found, list) else []
