"""What a command needs that works on an installation which is stopped."""

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

    if settings["kafka.bootstrap"] or not (home.kafka / "meta.properties").exists():
        yield find_bootstrap(home, settings)
        return
    last = home.run / "settings.toml"
    kept = [settings, load_settings(last)] if last.exists() else [settings]
    with Broker(home, None, max(found["kafka.retention_hours"] for found in kept)) as broker:
        yield broker.bootstrap
