"""Ends of a process, as a test plays them: what raises at one of the layers' named points."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tideline import points


class Crash(Exception):
    """The end of the process."""


def crash_at(patch: pytest.MonkeyPatch, point: str) -> None:
    """Raises Crash where a layer reaches `point`."""

    def crash() -> None:
        raise Crash(point)

    do_at(patch, point, crash)


def do_at(patch: pytest.MonkeyPatch, point: str, action: Callable[[], None]) -> None:
    """Calls `action` each time that a layer reaches `point`."""
    assert point in {**points.POINTS, **points.RECOVERY_POINTS, **points.REBASE_POINTS, **points.ERASE_POINTS}
    patch.setattr(points, "_hook", lambda reached: action() if reached == point else None)
