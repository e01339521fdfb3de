"""Tideline: exact views of a Kafka stream. Define a view once; batch, speed and serving agree on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tideline.durations import days, hours, minutes, seconds
from tideline.measures import (
    ApproxDistinct,
    Count,
    CountBy,
    First,
    Last,
    Max,
    Mean,
    Min,
    Quantiles,
    StdDev,
    Sum,
    TopK,
    Variance,
)
from tideline.source import Source
from tideline.view import View

if TYPE_CHECKING:
    from serving_layer.reader import Reader
    from tideline.client import AsyncClient, Client

__version__ = "0.1.0"
__all__ = [
    "ApproxDistinct",
    "Count",
    "CountBy",
    "First",
    "Last",
    "Max",
    "Mean",
    "Min",
    "Quantiles",
    "Source",
    "StdDev",
    "Sum",
    "TopK",
    "Variance",
    "View",
    "connect",
    "connect_async",
    "days",
    "hours",
    "minutes",
    "open",
    "seconds",
]


def open(home: str = ".tideline", **options: Any) -> Reader:
    """A reader of an installation's merged views, for use with `with`; it starts no JVM. Raises StoreError."""
    from serving_layer.reader import Reader

    return Reader(home, **options)


def connect(url: str, token: str | None = None, **options: Any) -> Client:
    """A client of a server's merged views, for use with `with`; options are those of `tideline.client.Client`."""
    from tideline.client import Client

    return Client(url, token, **options)


def connect_async(url: str, token: str | None = None, **options: Any) -> AsyncClient:
    """The same for `async with`."""
    from tideline.client import AsyncClient

    return AsyncClient(url, token, **options)
