"""Projects that `tideline init` writes, over a real topic and through the code that runs in production."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import tideline
from pyspark.sql import SparkSession

from tideline.errors import UsageError
from tideline.produce import produce_raw
from tideline.runtime.topics import create_topic
from tideline.starter.project import from_example, from_topic
from tideline.testing import answers

MACHINES = [
    {"machine": f"m{number % 3}", "at": f"2026-02-0{1 + number % 3}T00:00:00Z", "rpm": 900.5 + number}
    for number in range(40)
]


@pytest.fixture
def topic(kafka: str, topic_name: str) -> str:
    create_topic(kafka, topic_name, 2)
    values = [json.dumps(event).encode() for event in MACHINES]
    produce_raw([*values[:20], b"not json", b"[1]", *values[20:]], topic_name, kafka)
    return topic_name


def test_a_topic_becomes_a_project_whose_test_holds(
    spark: SparkSession, kafka: str, topic: str, tmp_path: Path
) -> None:
    folder = tmp_path / "machines"
    from_topic(folder, topic, kafka)
    assert f'topic="{topic}"' in (folder / "catalog.py").read_text("utf-8")
    assert f'bootstrap = "{kafka}"' in (folder / "tideline.toml").read_text("utf-8")
    with answers(folder / "catalog.py", folder / "events.jsonl", spark=spark) as t:
        rows = t.view("totals").get(order="machine").rows
        assert [(row["machine"], row["events"]) for row in rows] == [("m0", 14), ("m1", 13), ("m2", 13)]
        assert rows[0]["rpm_max"] == max(event["rpm"] for event in MACHINES[::3])
        assert sum(row["events"] for row in t.view("rate").get().rows) == 40


def test_a_topic_without_events_is_refused(kafka: str, topic_name: str, tmp_path: Path) -> None:
    create_topic(kafka, topic_name, 1)
    produce_raw([b"not json"], topic_name, kafka)
    with pytest.raises(UsageError) as error:
        from_topic(tmp_path / "p", topic_name, kafka)
    assert error.value.condition == "NO_EVENTS"


def test_answers_count_repeats_once_and_say_what_no_event_is(spark: SparkSession, tmp_path: Path) -> None:
    from_example(tmp_path / "shop")
    catalog = tmp_path / "shop" / "catalog.py"
    order = {"order_id": "a", "ordered_at": "2026-01-01T00:00:00Z", "country": "Chile", "quantity": 2, "amount": 1.5}
    with answers(catalog, [order, order, {**order, "order_id": "b"}, {"order_id": 7}], spark=spark) as t:
        answer = t.view("totals").get()
        assert [(row["country"], row["events"], row["quantity_sum"]) for row in answer.rows] == [("Chile", 2, 4)]
        assert answer.proof["duplicates"] == {"batch": 0, "speed": 1}
        assert answer.proof["dead_letters"] == {"batch": 0, "speed": 1}
    with pytest.raises(UsageError) as error, answers(catalog, [{"order_id": 7}], spark=spark):
        pass
    assert error.value.condition == "NO_EVENTS"
    with pytest.raises(UsageError), answers(catalog, [order], source="nope", spark=spark):
        pass


@pytest.mark.slow
def test_the_project_runs_at_once(tmp_path: Path) -> None:
    """Its own test, and a batch run by spark-submit."""
    folder = tmp_path / "shop"
    assert tideline("init", folder).code == 0
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
