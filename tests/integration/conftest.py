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
def installed(
    spark: SparkSession, kafka: str, topic_name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Installed]:
    """A fresh home, store and topic, with nothing applied. No fault outside may have quarantined a view."""
    made = Installed(spark, kafka, tmp_path / "home", topic_name)
    try:
        yield made
        assert made.ledger.quarantined == {} or "quarantined" in request.node.name
    finally:
        made.close()
