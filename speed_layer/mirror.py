"""The committed cut as the offsets of a Kafka consumer group, so that the usual lag tools see it.

It is written in a thread of its own, at most once a second, and nobody waits for it. The ledger stays the truth: the
group is never read, and an error here is a line in the log.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from tideline.cut import Cut
from tideline.runtime.groups import GroupClient
from tideline.runtime.logs import fields

log = logging.getLogger(__name__)
EVERY = 1.0  # seconds between two writes at least
AGAIN = 3600.0  # seconds after which it is written though nothing moved: Kafka forgets groups that rest
_LAST = 2.0  # seconds for the last write, when the layer ends


def group_name(setting: str, installation: str) -> str:
    """The group by the setting `speed.consumer_group`; empty for none."""
    return f"tideline-{installation[:8]}" if setting == "auto" else setting


class GroupMirror:
    """Keeps a group at `cut()`, the committed cut as the store has it. Without a group's name it does nothing."""

    def __init__(self, bootstrap: str, group: str, cut: Callable[[], Cut], every: float = EVERY) -> None:
        self.group = group
        self._client = GroupClient(bootstrap)
        self._cut = cut
        self._every = every
        self._moved = threading.Event()
        self._ending = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="group-mirror", daemon=True)

    def moved(self) -> None:
        """The committed cut has moved; returns at once."""
        self._moved.set()

    def __enter__(self) -> GroupMirror:
        if self.group:
            self._moved.set()
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Writes what has moved, within two seconds: a broker that is away holds nobody up."""
        self._ending.set()
        self._moved.set()
        if self.group:
            self._thread.join(_LAST)

    def _run(self) -> None:
        with self._client:
            while True:
                self._moved.wait(AGAIN)
                last = self._ending.is_set()
                self._moved.clear()
                done = self._write()
                if last:
                    return
                if not done:
                    self._moved.set()
                self._ending.wait(self._every)

    def _write(self) -> bool:
        """Whether it went well. What fails is said once, until it goes well again."""
        told = fields(layer="speed", group=self.group)
        try:
            cut = self._cut()
            self._client.commit(self.group, cut)
        except Exception as error:  # noqa: BLE001 - whatever fails here, the layer goes on
            if not self._failing:
                log.warning("the consumer group stays behind: %s", error, extra=told)
            self._failing = True
            return False
        if self._failing:
            log.info("the consumer group is at the cut again", extra=fields(**told["fields"], cut=cut))
        self._failing = False
        return True
