"""What a query refuses, and what it says then."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path
from typing import Any

import pytest
from serving_case import ANSWERS, MEASURES, START, Installation, installed

from serving_layer.query import Query
from serving_layer.reader import NotReadyError, Reader
from tideline.errors import MissingSegmentError, UsageError
from tideline.stores import Store


def refused(reader: Reader, view: str = "revenue", **options: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        reader.view(view).get(**options)
    assert caught.value.exit_code == 2
    return caught.value


def test_an_unknown_view_names_those_there_are(reader: Reader) -> None:
    with pytest.raises(UsageError) as caught:
        reader.query(Query("revenu"))
    assert caught.value.condition == "UNKNOWN_VIEW"
    assert caught.value.params["similar"] == ["revenue"]
    assert caught.value.params["known"] == ["everything", "hourly", "revenue", "totals", "typed"]


def test_an_unknown_key_names_columns_and_options(reader: Reader) -> None:
    error = refused(reader, contry="France")
    assert (error.condition, error.params["similar"]) == ("UNKNOWN_KEY", ["country"])
    assert error.params["known"] == ["country", "product"]
    assert "limit" in error.params["options"]
    assert refused(reader, group_by="city").condition == "UNKNOWN_KEY"


def test_an_unknown_measure_names_those_there_are(reader: Reader) -> None:
    error = refused(reader, measures="revnue,lines")
    assert (error.condition, error.params["similar"]) == ("UNKNOWN_MEASURE", ["revenue"])
    assert error.params["known"] == [*MEASURES, *ANSWERS]


@pytest.mark.parametrize(
    ("options", "near"),
    [
        ({"start": "2011-12-01T00:30:00Z"}, ["2011-12-01T00:00:00Z", "2011-12-01T01:00:00Z"]),
        ({"end": "2011-12-01T01:00:00Z", "window": "1d"}, ["2011-12-01T00:00:00Z", "2011-12-02T00:00:00Z"]),
    ],
)
def test_a_time_off_the_bucket_is_told_the_nearest(reader: Reader, options: Any, near: list[str]) -> None:
    error = refused(reader, **options)
    assert (error.condition, error.params["nearest"], error.params["bucket"]) == ("BAD_TIME", near, "1h")


@pytest.mark.parametrize(
    "options",
    [
        {"start": "yesterday"},
        {"start": True},
        {"start": 10**30},
        {"end": 1.5},
        {"start": "2011-12-03", "end": "2011-12-02"},
    ],
)
def test_what_is_not_a_time_is_refused(reader: Reader, options: Any) -> None:
    assert refused(reader, **options).condition == "BAD_TIME"


@pytest.mark.parametrize(
    "options",
    [
        {"window": "90m"},
        {"window": "30m"},
        {"window": "0h"},
        {"window": "1d", "slide": "90m"},
        {"slide": "1h"},
        {"window": "2h", "slide": "3h"},
        {"window": "all", "slide": "1h"},
        {"window": "100000d", "slide": "1h"},
    ],
)
def test_a_window_that_is_no_multiple_names_the_bucket(reader: Reader, options: Any) -> None:
    error = refused(reader, **options)
    assert (error.condition, error.params["bucket"]) == ("BAD_WINDOW", "1h")


@pytest.mark.parametrize("options", [{"start": START}, {"end": START}, {"window": "1h"}, {"slide": "1h"}])
def test_a_view_without_bucket_refuses_times(reader: Reader, options: Any) -> None:
    assert refused(reader, "totals", **options).condition == "NO_BUCKET"


@pytest.mark.parametrize(
    ("options", "condition"),
    [
        ({"order": "city"}, "BAD_ORDER"),
        ({"order": "best"}, "BAD_ORDER"),
        ({"order": "spread"}, "BAD_ORDER"),
        ({"order": "spread.p77"}, "BAD_ORDER"),
        ({"order": "lines.x"}, "BAD_ORDER"),
        ({"order": "products"}, "BAD_ORDER"),
        ({"order": "product", "group_by": "country"}, "BAD_ORDER"),
        ({"limit": -1}, "BAD_VALUE"),
        ({"limit": "x"}, "BAD_VALUE"),
        ({"limit": True}, "BAD_VALUE"),
        ({"limit_by": "country"}, "BAD_VALUE"),
        ({"limit_by": "city:2"}, "BAD_LIMIT_BY"),
        ({"limit_by": "country:0"}, "BAD_VALUE"),
        ({"version": 99}, "UNKNOWN_VERSION"),
        ({"version": "x"}, "BAD_VALUE"),
        ({"at_least": "x"}, "BAD_CUT"),
        ({"at_least": "visits:0=5"}, "UNKNOWN_TOPIC"),
        ({"timeout": -1}, "BAD_VALUE"),
        ({"timeout": "x"}, "BAD_VALUE"),
        ({"timeout": math.nan}, "BAD_VALUE"),
        ({"window": 1.5}, "BAD_VALUE"),
        ({"window": "1 fortnight"}, "BAD_DURATION"),
        ({"measures": 5}, "BAD_VALUE"),
        ({"parts": "x"}, "BAD_VALUE"),
        ({"country": 5}, "BAD_VALUE"),
        ({"measures": "lines,lines"}, "BAD_VALUE"),
        ({"at_least": {"sales": 5}}, "BAD_CUT"),
    ],
)
def test_other_wrong_options_are_refused(reader: Reader, options: Any, condition: str) -> None:
    assert refused(reader, **options).condition == condition


@pytest.mark.parametrize(
    "key",
    [
        {"quantity": "x"},
        {"quantity": 2**40},
        {"quantity": True},
        {"quantity": 1.5},
        {"amount": "1.234"},
        {"sold_at": "noon"},
        {"sold_at": dt.date(2011, 1, 1)},
        {"amount": [[1]]},
        {"quantity": [1, "x"]},
    ],
)
def test_a_key_of_another_type_is_refused(reader: Reader, key: Any) -> None:
    error = refused(reader, "typed", **key)
    assert error.condition in ("BAD_VALUE", "BAD_TIME")
    assert "type" in error.message


def test_a_view_that_waits_for_its_first_batch_run_says_so(store: Store, tmp_path: Path) -> None:
    installation = installed(store, 30)
    with store.write() as txn:
        ledger = txn.ledger
        fresh = {**ledger.definition("a" * 16), "name": "later", "fingerprint": "f" * 16}
        wanted = {**ledger.wanted, "later": "f" * 16}
        txn.put_ledger(ledger.apply(ledger.sources, {**ledger.definitions, "f" * 16: fresh}, wanted, ledger.topic_ids))
    with pytest.raises(NotReadyError) as caught:
        Reader(tmp_path, store=installation.store).query(Query("later"))
    assert caught.value.condition == "VIEW_NOT_LIVE"


def test_a_missing_segment_is_an_error_not_a_smaller_number(installation: Installation, tmp_path: Path) -> None:
    with installation.store.write() as txn:
        segment = txn.ledger.version.views["b" * 16][0]
        txn.drop(f"s{segment}")
    with pytest.raises(MissingSegmentError):
        Reader(tmp_path, store=installation.store).view("totals").get()
