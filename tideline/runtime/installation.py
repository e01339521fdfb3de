"""What every process of an installation starts with: its store, its Kafka, its Spark session."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tideline.errors import OutsideError, UsageError
from tideline.runtime.collector import collect_seldom
from tideline.runtime.home import Home, HomeError
from tideline.runtime.java import find_java
from tideline.runtime.process import pause
from tideline.runtime.scratch import own_scratch
from tideline.settings import Settings
from tideline.stores.lmdb import LmdbStore

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@contextlib.contextmanager
def open_applied(home: Home) -> Iterator[LmdbStore]:
    """The store of an installation to which a catalog was applied, looked through. Raises StoreError, UsageError."""
    with LmdbStore.open(home.path) as store:
        store.check()
        with store.snapshot() as snapshot:
            if not snapshot.ledger.wanted and not snapshot.ledger.quarantined:
                raise UsageError(
                    "NOT_APPLIED",
                    f"no catalog was applied to {home.path}",
                    "run tideline apply --catalog FILE first",
                    home=str(home.path),
                )
        yield store


def find_bootstrap(home: Home, settings: Settings) -> str:
    """Where Kafka is: by the settings, else where `up` runs it. Raises OutsideError NO_KAFKA."""
    if settings.kafka:
        return settings.kafka
    status = home.read_status("kafka")
    if status and status.get("bootstrap"):
        return str(status["bootstrap"])
    raise OutsideError(
        "NO_KAFKA",
        f"nothing says where the Kafka of {home.path} is",
        "start tideline up, or name it with --bootstrap-server",
        home=str(home.path),
    )


def layer_session(name: str, home: Home, settings: Settings, brief: bool = False) -> SparkSession:
    """The Spark session of a layer, or of a `brief` command. Raises JavaError, JarError."""
    from tideline.runtime.spark_conf import spark_settings
    from tideline.spark.session import start_spark

    find_java()
    scratch = own_scratch(home.tmp, name.removeprefix("tideline-"))
    session = start_spark(name, spark_settings(home, settings, brief, scratch), settings.spark)
    collect_seldom()
    return session


def stop_on_signals() -> threading.Event:
    """An event that SIGINT and SIGTERM set, for the main thread."""
    stopping = threading.Event()

    def stop(number: int, frame: Any) -> None:
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopping


def lock_in_jvm(spark: SparkSession, home: Home, name: str) -> None:
    """Takes a file lock in the JVM, which writes Delta and outlives a killed Python driver for a moment (invariant 9).

    The JVM holds it until it ends. Raises HomeError HOME_IN_USE where another one does after five seconds.
    """
    jvm: Any = spark._jvm
    options = jvm.java.util.HashSet()
    for option in ("CREATE", "WRITE"):
        options.add(getattr(jvm.java.nio.file.StandardOpenOption, option))
    path = jvm.java.io.File(str(home.run / f"{name}-jvm.lock")).toPath()
    gateway: Any = spark.sparkContext._gateway
    attributes = gateway.new_array(jvm.java.nio.file.attribute.FileAttribute, 0)
    channel = jvm.java.nio.channels.FileChannel.open(path, options, attributes)
    deadline = time.monotonic() + 5
    while channel.tryLock() is None:
        if time.monotonic() > deadline:
            raise HomeError("HOME_IN_USE", path=str(home.path), pid="(a JVM that ends)", name=name)
        pause(0.05)
