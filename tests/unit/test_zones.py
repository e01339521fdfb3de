"""Days of a time zone, compared with Python's own calendar, and queries by them with a plain computation."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_case import Installation, installed, moment, naive

from serving_layer.reader import Reader
from serving_layer.windows import Windows
from serving_layer.zones import DAY, Zone, find_zone
from tideline.errors import UsageError
from tideline.stores.lmdb import LmdbStore

# With daylight saving, half hours, a day that was left out, and midnights that do not exist.
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "America/Havana",
    "Asia/Beirut",
]
HOUR = DAY // 24


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Reader, Installation]]:
    home = tmp_path_factory.mktemp("home")
    with LmdbStore.open(home, create=True) as store:
        made = installed(store, 150)
        with Reader(home) as reader:
            yield reader, made


@pytest.mark.parametrize("name", ZONES)
def test_a_day_begins_with_the_first_instant_of_its_date(name: str) -> None:
    zone, info = Zone(name), zoneinfo.ZoneInfo(name)

    def date(micros: int) -> int:
        local = (dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(microseconds=micros)).astimezone(info)
        return (local.date() - dt.date(1970, 1, 1)).days

    @settings(max_examples=200, deadline=None)
    @given(st.integers(3_650, 25_000))
    def law(day: int) -> None:
        begins = zone.midnight(day)
        assert date(begins - 1) < day
        assert date(begins) >= day
        assert zone.day(begins) == date(begins)

    law()
    for day in range(14_900, 15_400):  # 2010-10 to 2012-03, every day
        assert date(zone.midnight(day) - 1) < day <= date(zone.midnight(day))


def test_days_around_a_change_of_the_clocks_have_23_and_25_hours() -> None:
    berlin = Zone("Europe/Berlin")
    spring, autumn = ((dt.date(2011, *of) - dt.date(1970, 1, 1)).days for of in ((3, 27), (10, 30)))
    assert berlin.midnight(spring + 1) - berlin.midnight(spring) == 23 * HOUR
    assert berlin.midnight(autumn + 1) - berlin.midnight(autumn) == 25 * HOUR


@pytest.mark.parametrize("name", ["Nowhere/Else", "europe/berlin", "../etc/passwd", "/etc/passwd", "", "localtime", 5])
def test_what_is_no_zone_is_refused(name: Any) -> None:
    with pytest.raises(UsageError) as refused:
        find_zone(name)
    assert refused.value.condition in ("BAD_ZONE", "BAD_VALUE")


@pytest.mark.parametrize("name", [None, "UTC"])
def test_utc_is_no_zone_of_its_own(name: str | None) -> None:
    assert find_zone(name) is None


@pytest.mark.parametrize("name", ["Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("days", [1, 2])
def test_windows_of_days_are_those_of_the_zone(installation: tuple[Reader, Installation], name: str, days: int) -> None:
    reader, made = installation
    info = zoneinfo.ZoneInfo(name)
    rows = reader.view("revenue").get(window=f"{days}d", zone=name, group_by=[]).rows
    groups: dict[int, list[Any]] = {}
    for event in made.events:
        day = (moment(event.at).astimezone(info).date() - dt.date(1970, 1, 1)).days
        groups.setdefault(day // days * days, []).append(event)
    found = {(row["window"].date() - dt.date(1970, 1, 1)).days: row for row in rows}
    assert found.keys() == groups.keys()
    for day, row in found.items():
        assert row["window"].isoformat()[11:19] == "00:00:00"
        assert row["window"].tzinfo == info
        expected = naive(groups[day])
        assert (row["lines"], row["revenue"]) == (expected["lines"], expected["revenue"])


def test_shorter_windows_begin_anew_at_midnight(installation: tuple[Reader, Installation]) -> None:
    reader, made = installation
    info = zoneinfo.ZoneInfo("America/New_York")
    rows = reader.view("revenue").get(window="6h", zone="America/New_York", group_by=[]).rows
    assert {row["window"].hour for row in rows} <= {0, 6, 12, 18}
    for row in rows:
        inside = [e for e in made.events if row["window"] <= moment(e.at) < row["window"] + dt.timedelta(hours=6)]
        assert row["lines"] == naive(inside)["lines"]
    assert sum(row["lines"] for row in rows) == len(made.events)
    assert all(row["window"].tzinfo == info for row in rows)


def test_a_range_is_read_in_the_zone(installation: tuple[Reader, Installation]) -> None:
    reader, _ = installation
    whole = reader.view("revenue").get(window="1d", zone="Europe/Berlin", group_by=[]).rows
    ranged = reader.view("revenue").get(
        window="1d", zone="Europe/Berlin", group_by=[], start="2011-12-02", end="2011-12-04"
    )
    assert [row["window"].day for row in ranged.rows] == [2, 3]
    assert ranged.rows == [row for row in whole if row["window"].day in (2, 3)]
    assert ranged.to_json()["rows"][0]["window"] == "2011-12-02T00:00:00+01:00"
    assert str(ranged.to_arrow().schema.field("window").type) == "timestamp[us, tz=Europe/Berlin]"
    with pytest.raises(UsageError) as refused:
        reader.view("revenue").get(window="1d", zone="Europe/Berlin", start="2011-12-02T00:00Z")
    assert refused.value.params["nearest"] == ["2011-12-01T23:00:00Z", "2011-12-02T23:00:00Z"]


def test_buckets_that_do_not_end_at_midnight_are_refused(installation: tuple[Reader, Installation]) -> None:
    reader, _ = installation
    with pytest.raises(UsageError) as refused:
        reader.view("revenue").get(window="1d", zone="Asia/Kolkata")
    assert refused.value.condition == "BAD_ZONE"
    with pytest.raises(UsageError) as sliding:
        reader.view("revenue").get(window="6h", slide="1h", zone="Europe/Berlin")
    assert sliding.value.condition == "BAD_WINDOW"


@pytest.mark.parametrize("window", ["36h", "25h", "60h"])
def test_windows_of_days_and_hours_are_refused(installation: tuple[Reader, Installation], window: str) -> None:
    with pytest.raises(UsageError) as refused:
        installation[0].view("revenue").get(window=window, zone="Europe/Berlin")
    assert refused.value.condition == "BAD_WINDOW"
    assert installation[0].view("revenue").get(window=window).rows


def test_a_window_that_begins_on_a_day_that_was_left_out_has_the_next() -> None:
    zone = Zone("Pacific/Apia")
    left_out = (dt.date(2011, 12, 30) - dt.date(1970, 1, 1)).days
    for days in (2, 3):
        first = left_out // days * days
        windows = Windows(days * DAY, days * DAY, zone=zone)
        for hour in range((first - days) * 24, (first + 2 * days) * 24):
            assert len(windows.of(hour * HOUR)) == 1, (days, hour)


def test_sliding_windows_of_days(installation: tuple[Reader, Installation]) -> None:
    reader, made = installation
    rows = reader.view("revenue").get(window="2d", slide="1d", zone="Europe/Berlin", group_by=[]).rows
    for row in rows:
        inside = [e for e in made.events if row["window"] <= moment(e.at) < row["window"] + dt.timedelta(days=2)]
        assert row["lines"] == naive(inside)["lines"]
    assert sum(row["lines"] for row in rows) == 2 * len(made.events)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(ZONES), st.integers(1, 9), st.integers(1, 9), st.integers(-(10**6), 10**6))
def test_a_bucket_lies_in_as_many_windows_as_slides_fit(name: str, days: int, slide: int, hour: int) -> None:
    slide = min(days, slide)
    windows = Windows(days * DAY, slide * DAY, zone=Zone(name))
    bucket = hour * HOUR
    found = windows.of(bucket)
    fewest = days // slide - (name == "Pacific/Apia")
    assert fewest <= len(found) <= -(-days // slide)
    assert len(set(found)) == len(found)
    assert all(start is not None and start <= bucket for start in found)
    below, above = windows.around(bucket)
    assert below <= bucket < above
