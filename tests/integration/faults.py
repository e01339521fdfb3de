"""Ends of a process, as a test plays them: a step that raises before it does anything, or when it is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


class Crash(Exception):
    """The end of the process."""


def crash(patch: pytest.MonkeyPatch, owner: type, name: str, after: bool) -> None:
    """Makes the method `name` raise Crash, with `after` once the real one has returned."""
    real: Callable[..., Any] = getattr(owner, name)

    def step(*args: Any, **options: Any) -> Any:
        if after:
            real(*args, **options)
        raise Crash(name)

    patch.setattr(owner, name, step)
