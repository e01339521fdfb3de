"""The speed layer as a process: its lock, its session, its note in HOME/run, its end on a signal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from speed_layer.fold import SparkFolder
from speed_layer.layer import Committed, SpeedLayer
from speed_layer.stream import SpeedQuery
from tideline.runtime.home import Home
from tideline.runtime.installation import layer_session, open_applied
from tideline.settings import Settings

_NOTE_EVERY = 0.5  # seconds between two notes in HOME/run/speed.json


def run_speed(
    home: Home,
    settings: Settings,
    bootstrap: str,
    stopping: threading.Event,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Runs the speed layer until `stopping` is set. Raises HomeError, StoreError, KafkaFault and ProtocolError."""
    home.prepare()
    with home.lock("speed"), open_applied(home) as store:
        spark = layer_session("tideline-speed", home, settings)
        noted = -_NOTE_EVERY

        def note(committed: Committed | None) -> None:
            nonlocal noted
            now = time.monotonic()
            if committed is None or now - noted >= _NOTE_EVERY:
                noted = now
                cycle = committed and {"committed_at": time.time(), "cycle_seconds": round(committed.seconds, 3)}
                home.write_status("speed", {"ready": True, "bootstrap": bootstrap, **(cycle or {})})

        def started() -> None:
            note(None)
            say("the speed layer is reading")

        folder = SparkFolder(spark, bootstrap, home.master)
        query = SpeedQuery(
            SpeedLayer(store, folder, note),
            folder,
            home.tmp,
            f"{settings.micros('speed.trigger') // 1000} milliseconds",
            settings["speed.max_offsets_per_trigger"],
        )
        try:
            query.run(stopping, started)
        finally:
            home.clear_status("speed")
            spark.stop()
