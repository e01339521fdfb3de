"""What commands need that work on an installation which is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tideline.runtime.home import Home
from tideline.runtime.installation import find_bootstrap
from tideline.settings import Settings, load_settings


class NoSpeedLayer:
    """The locks of a home whose speed layer is kept down by this process, which holds its lock."""

    def locked_by(self, name: str) -> int | None:
        """Nobody else."""
        return None


@contextmanager
def kafka_of(home: Home, settings: Settings) -> Iterator[str]:
    """Where Kafka is. The embedded broker, which nobody else runs now, is started for the time it takes.

    It keeps records as long as the last `up` did. Raises OutsideError NO_KAFKA, BrokerFault.
    """
    from tideline.runtime.broker import Broker

    if settings["kafka.bootstrap"] or not _has_broker(home):
        yield find_bootstrap(home, settings)
        return
    last = home.run / "settings.toml"
    kept = [settings, load_settings(last)] if last.exists() else [settings]
    with Broker(home, None, max(found["kafka.retention_hours"] for found in kept)) as broker:
        yield broker.bootstrap


@contextmanager
def own_kafka(home: Home, settings: Settings) -> Iterator[str | None]:
    """Where the embedded broker is, started for the time it takes, if it is the Kafka of a home where nothing runs.

    Else None: then the settings say where Kafka is, or what runs there does.
    """
    runs = any(home.locked_by(name) is not None for name in ("up", "speed", "batch"))
    if runs or settings["kafka.bootstrap"] or not _has_broker(home):
        yield None
    else:
        with home.lock("up"), kafka_of(home, settings) as bootstrap:
            yield bootstrap


def _has_broker(home: Home) -> bool:
    return (home.kafka / "meta.properties").exists()
