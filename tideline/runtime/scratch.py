"""Scratch folders of processes; whoever starts removes those of processes that were killed."""

from __future__ import annotations

import atexit
import fcntl
import shutil
import tempfile
from pathlib import Path
from typing import IO

_LOCK = "lock"
_own: dict[Path, tuple[Path, IO[bytes]]] = {}


def own_scratch(parent: Path, name: str) -> Path:
    """A folder in `parent` that is this process's until it ends, however it ends; it has one. Raises OSError."""
    known = _own.get(parent)
    if known and known[0].is_dir():
        return known[0]
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / _LOCK).open("ab") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        _sweep(parent)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
        held = (folder / _LOCK).open("ab")
        fcntl.flock(held, fcntl.LOCK_EX)
    _own[parent] = folder, held
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _sweep(parent: Path) -> None:
    for lock in parent.glob(f"*/{_LOCK}"):
        with lock.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            shutil.rmtree(lock.parent, ignore_errors=True)
