"""The batch layer as a process: one run, or one every so often."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from batch_layer.engine import SparkEngine
from batch_layer.recover import recover
from batch_layer.run import BatchLayer
from tideline.errors import FenceError
from tideline.ledger import Loss
from tideline.runtime.home import Home
from tideline.runtime.installation import layer_session, lock_in_jvm, open_applied
from tideline.settings import Settings

Report = Mapping[str, Any]
log = logging.getLogger(__name__)


def run_batch(
    home: Home,
    settings: Settings,
    bootstrap: str,
    *,
    full: bool = False,
    redecode: bool = False,
    every: float | None = None,
    stopping: threading.Event | None = None,
    report: Callable[[Report | None], None] = lambda report: None,
) -> None:
    """Runs once, or every `every` seconds until `stopping` is set; `report` gets what each run did.

    `full` and `redecode` hold for the first run. Raises HomeError, StoreError, KafkaFault and ProtocolError.
    """
    stopping = stopping or threading.Event()
    home.prepare()
    with home.lock("batch"), open_applied(home) as store:
        spark = layer_session("tideline-batch", home, settings)
        lock_in_jvm(spark, home, "batch")
        status = {"ready": True, "bootstrap": bootstrap, "every": every}
        home.write_status("batch", status)
        try:
            layer = BatchLayer(store, home, SparkEngine(spark, store, home, bootstrap), settings["batch.keep_versions"])
            while not stopping.is_set():
                began = time.monotonic()
                try:
                    report(layer.run(full, redecode))
                    full = redecode = False
                    home.write_status("batch", {**status, "error": None})
                except FenceError:
                    raise
                except Exception as error:
                    # A schedule outlives a fault outside, such as a broker that is away: the next run goes on.
                    if every is None:
                        raise
                    log.exception("the run failed; the next one begins as scheduled")
                    home.write_status("batch", {**status, "error": str(error).splitlines()[0]})
                if every is None or stopping.wait(max(0.0, every - (time.monotonic() - began))):
                    break
        finally:
            home.clear_status("batch")
            spark.stop()


class _Alone:
    """The locks of a home whose speed layer is kept down by this process."""

    def locked_by(self, name: str) -> int | None:
        return None


def run_recover(home: Home, settings: Settings, bootstrap: str) -> tuple[list[Loss], Report | None]:
    """Recovers an installation whose layers are down, and publishes the rest of the log; what is lost, and the run.

    Raises HomeError HOME_IN_USE where a layer runs, LostLogError, TopicRecreatedError, KafkaFault.
    """
    home.prepare()
    with home.lock("speed"), home.lock("batch"), open_applied(home) as store:
        spark = layer_session("tideline-recover", home, settings)
        lock_in_jvm(spark, home, "batch")
        try:
            engine = SparkEngine(spark, store, home, bootstrap)
            losses = recover(store, engine)
            return losses, BatchLayer(store, _Alone(), engine, settings["batch.keep_versions"]).run()
        finally:
            spark.stop()
