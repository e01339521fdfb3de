"""Fixtures of the integration tests: installations of their own on the shared broker and Spark session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from installed import Installed

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def installed(spark: SparkSession, kafka: str, topic_name: str, tmp_path: Path) -> Iterator[Installed]:
    """A fresh home, store and topic, with nothing applied."""
    made = Installed(spark, kafka, tmp_path / "home", topic_name)
    yield made
    made.close()
