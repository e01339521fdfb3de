"""The speed layer as a process: its lock, its session, its note in HOME/run, its log, its end on a signal."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from speed_layer.fold import SparkFolder
from speed_layer.layer import Committed, SpeedLayer
from speed_layer.mirror import GroupMirror, group_name
from speed_layer.stream import SpeedQuery
from tideline.ledger import Ledger
from tideline.runtime.home import Home
from tideline.runtime.installation import layer_session, open_applied
from tideline.runtime.kafka_access import note_of
from tideline.runtime.logs import fields
from tideline.settings import Settings
from tideline.stores import Store

log = logging.getLogger(__name__)
_NOTE_EVERY = 0.5  # seconds between two notes in HOME/run/speed.json
_LOG_EVERY = 5.0  # seconds between two lines on commits


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
        group = group_name(settings["speed.consumer_group"], _ledger(store).installation)
        with GroupMirror(bootstrap, group, lambda: _ledger(store).committed) as mirror:
            progress = Progress(home, store, bootstrap, mirror)

            def started() -> None:
                progress.note()
                say("the speed layer is reading")

            folder = SparkFolder(spark, bootstrap, home.master, home.tmp)
            query = SpeedQuery(
                SpeedLayer(store, folder, progress.committed),
                folder,
                home.tmp,
                f"{settings.micros('speed.trigger') // 1000} milliseconds",
                settings["speed.max_offsets_per_trigger"],
            )
            try:
                query.run(stopping, started)
            except Exception as error:
                log.error("the speed layer ends: %s", error, extra=_place(_ledger(store)))
                raise
            finally:
                home.clear_status("speed")
                spark.stop()


@dataclass
class Progress:
    """What the layer says of its commits: to HOME/run, to its log, to the consumer group."""

    home: Home
    store: Store
    bootstrap: str
    mirror: GroupMirror
    cycles: int = 0
    seconds: float = 0.0
    states: int = 0
    _noted: float = -_LOG_EVERY
    _logged: float = -_LOG_EVERY
    _untold: int = 0

    def committed(self, commit: Committed) -> None:
        """After each commit."""
        now = time.monotonic()
        self.cycles += 1
        self.seconds += commit.seconds
        self.states += commit.states
        self._untold += 1
        self.mirror.moved()
        if now - self._noted >= _NOTE_EVERY:
            self._noted = now
            self.note(
                committed_at=time.time(),
                cycle_seconds=round(commit.seconds, 3),
                cycles=self.cycles,
                seconds=round(self.seconds, 3),
                states=self.states,
            )
        if now - self._logged >= _LOG_EVERY:
            place = _place(_ledger(self.store), commits=self._untold, seconds=round(commit.seconds, 3))
            log.info("committed", extra=place)
            self._logged, self._untold = now, 0

    def note(self, **cycle: float) -> None:
        """Writes HOME/run/speed.json."""
        self.home.write_status("speed", {"ready": True, **note_of(self.bootstrap), **cycle})


def _ledger(store: Store) -> Ledger:
    with store.snapshot() as snapshot:
        return snapshot.ledger


def _place(ledger: Ledger, **more: object) -> dict[str, object]:
    return fields(layer="speed", cut=ledger.committed, generation=ledger.open.id, version=ledger.version.id, **more)
