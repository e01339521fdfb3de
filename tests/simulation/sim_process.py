"""A process of the simulation: a greenlet that hands control back at every named point."""

from __future__ import annotations

from collections.abc import Callable

from greenlet import GreenletExit, getcurrent, greenlet


class Process:
    """A running layer; `at` is the point at which it waits."""

    def __init__(self, name: str, body: Callable[[Process], None], locked: bool) -> None:
        self.name = name
        self.locked = locked
        self.at = "start"
        self.knows = (0, 0, 0)
        self.astray = False
        self.sleeps = 0
        self.failure: BaseException | None = None
        self._greenlet = greenlet(lambda: self._run(body))

    def _run(self, body: Callable[[Process], None]) -> None:
        try:
            body(self)
        except GreenletExit:
            raise
        except BaseException as error:  # noqa: BLE001 - judged by the world
            self.failure = error

    def resume(self) -> None:
        """Goes on to the next point."""
        self._greenlet.switch()

    def kill(self) -> None:
        """Ends where it waits, as SIGKILL does: nothing more of it reaches store, disk or broker."""
        if not self._greenlet.dead:
            self._greenlet.throw(GreenletExit)

    def wait(self, point: str) -> None:
        """Hands control to the schedule."""
        self.at = point
        parent = self._greenlet.parent
        assert parent is not None
        parent.switch()

    @property
    def ended(self) -> bool:
        return bool(self._greenlet.dead)

    def is_current(self) -> bool:
        return getcurrent() is self._greenlet
