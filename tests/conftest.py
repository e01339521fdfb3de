"""What tests share: one real broker for the whole run, topics of their own, and a real data file."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.topics import create_topic

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TESTS = Path(__file__).parent
SHARED_DATA = TESTS.parent.parent / "shared" / "data"
# Commands that tests run live for seconds, in which the JVM's optimising compiler takes more than it gives.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever lies in tests/integration is an integration test."""
    for item in items:
        if (TESTS / "integration") in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a real broker, started once."""
    with Broker(Home(tmp_path_factory.mktemp("broker")).prepare()) as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A Spark session as the layers start theirs: UTC, no UI, two cores and two shuffle partitions."""
    from tideline.runtime.spark_conf import spark_settings
    from tideline.settings import load_settings
    from tideline.spark.session import start_spark

    overrides = {"spark.cores": 2, "spark.driver_memory": "2g"}
    home = Home(tmp_path_factory.mktemp("spark")).prepare()
    settings = spark_settings(home, load_settings(None, {}, overrides), brief=True)
    session = start_spark("tests", settings)
    yield session
    session.stop()


@pytest.fixture
def topic_name() -> str:
    """A topic name that no other test uses."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def topic(kafka: str, topic_name: str) -> str:
    """A fresh topic with four partitions."""
    create_topic(kafka, topic_name, partitions=4)
    return topic_name


@pytest.fixture(scope="session")
def retail_csv() -> Path:
    """541,909 invoice lines of a real web shop (UCI Online Retail)."""
    path = SHARED_DATA / "online_retail.csv.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not in {SHARED_DATA}: real data is kept outside the repository")
    return path
