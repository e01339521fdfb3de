"""The batch layer as a process: one run, or one every so often."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from batch_layer.engine import SparkEngine
from batch_layer.rebase import rebase
from batch_layer.recover import recover
from batch_layer.run import BatchLayer
from tideline.errors import FenceError, TidelineError
from tideline.ledger import Loss
from tideline.runtime.home import Home
from tideline.runtime.installation import layer_session, lock_in_jvm, open_applied
from tideline.runtime.kafka_access import note_of
from tideline.runtime.stopped import NoSpeedLayer
from tideline.settings import Settings

RECENT = 20  # runs that the note tells of
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
        note = {"ready": True, **note_of(bootstrap), "every": every}
        try:
            layer = BatchLayer(store, home, SparkEngine(spark, store, home, bootstrap), settings["batch.keep_versions"])
            keep_running(layer, home, note, full, redecode, stopping, report)
        finally:
            home.clear_status("batch")
            spark.stop()


def keep_running(
    layer: BatchLayer,
    home: Home,
    about: Mapping[str, Any],
    full: bool,
    redecode: bool,
    stopping: threading.Event,
    report: Callable[[Report | None], None],
) -> None:
    """The runs of a process, by `about["every"]`; what became of them stands with `about` in HOME/run/batch.json."""
    every = about["every"]
    note: dict[str, Any] = {**about, "runs": 0, "failures": 0, "recent": []}
    home.write_status("batch", note)
    layer.tell = lambda running: home.write_status("batch", {**note, "running": running})
    while not stopping.is_set():
        began = time.monotonic()
        try:
            done = layer.run(full, redecode)
            report(done)
            full = redecode = False
            last = done or note.get("last_run")
            note |= {"error": None, "condition": None, "succeeded_at": time.time(), "last_run": last}
            if done is not None:
                note["recent"] = [*note["recent"], done][-RECENT:]
        except Exception as error:
            # A schedule outlives a fault outside, such as a broker that is away: the next run goes on.
            if every is None or isinstance(error, FenceError):
                log.error("the run failed: %s", error, extra=layer.told())
                raise
            log.exception("the run failed; the next one begins as scheduled", extra=layer.told())
            kind = error.condition if isinstance(error, TidelineError) else type(error).__name__
            text = (str(error).splitlines() or [kind])[0]
            note |= {"error": text, "condition": kind, "failures": note["failures"] + 1}
        note["runs"] += 1
        home.write_status("batch", note)
        if every is None or stopping.wait(max(0.0, every - (time.monotonic() - began))):
            break


def run_recover(
    home: Home, settings: Settings, bootstrap: str, moved: bool = False
) -> tuple[list[Loss], Report | None]:
    """Recovers an installation whose layers are down, and publishes the rest of the log; what is lost, and the run.

    `moved` says that topics were made anew, there or on another cluster, and go on where the old ones ended. Raises
    HomeError HOME_IN_USE where a layer runs, LostLogError, TopicRecreatedError, KafkaFault.
    """
    home.prepare()
    with home.lock("speed"), home.lock("batch"), open_applied(home) as store:
        spark = layer_session("tideline-recover", home, settings)
        lock_in_jvm(spark, home, "batch")
        try:
            engine = SparkEngine(spark, store, home, bootstrap)
            if moved:
                rebase(store, engine)
            losses = recover(store, engine)
            return losses, BatchLayer(store, NoSpeedLayer(), engine, settings["batch.keep_versions"]).run()
        finally:
            spark.stop()
