"""Writing the LMDB store anew: its free pages still hold what was once in them.

Every process that has the store open holds a shared lock on `users.lock` beside it; whoever replaces the file holds
that lock alone. LMDB's own copy keeps whole pages, and with them what else once stood there: so each row is written
again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

import lmdb

from tideline.disk import sync_path
from tideline.errors import StoreError
from tideline.points import reach
from tideline.runtime.process import pause

_ROWS = 10_000  # of one transaction
_PATIENCE = 10.0  # seconds that a query may still take
_FRESH = "fresh"


def use(folder: str | os.PathLike[str]) -> IO[bytes]:
    """Marks the store's folder as in use by this process, until the file is closed; waits while it is written anew."""
    file = Path(folder, "users.lock").open("ab")  # noqa: SIM115 - open as long as the store is
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


@contextmanager
def unused(home: Path) -> Iterator[None]:
    """Nobody has the home's store open meanwhile. Raises StoreError STORE_IN_USE naming who has."""
    with (home / "store" / "users.lock").open("ab") as file:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    pid = ", ".join(_holders(file)) or "unknown"
                    raise StoreError("STORE_IN_USE", path=str(home), pid=pid) from None
                pause(0.05)
        yield


def _holders(file: IO[bytes]) -> list[str]:
    """The processes that hold a lock on a file, where the system tells."""
    found = os.fstat(file.fileno())
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        lines = [line.split() for line in Path("/proc/locks").read_text("utf-8").splitlines()]
    except OSError:
        return []
    return sorted({words[4] for words in lines if words[1] == "FLOCK" and words[5] == place})


def rewrite(home: Path) -> tuple[int, int]:
    """Writes every row of the store to a new file and puts it in the old one's place; bytes before and after.

    Raises StoreError STORE_IN_USE. However it ends, the store is the old one or the new one, which say the same.
    """
    folder = home / "store"
    fresh, data = folder / _FRESH, folder / "data.mdb"
    with unused(home):
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        try:
            _copy(folder, fresh)
        except lmdb.Error as fault:
            raise StoreError("STORE_FAILED", path=str(home), reason=str(fault)) from fault
        before, after = data.stat().st_size, (fresh / "data.mdb").stat().st_size
        reach("erase.store")
        os.replace(fresh / "data.mdb", data)
        sync_path(folder)
        shutil.rmtree(fresh)
    return before, after


def _copy(folder: Path, fresh: Path) -> None:
    options: dict[str, Any] = {"map_size": 1 << 40, "max_dbs": 1 << 13}
    old = lmdb.open(str(folder), readonly=True, lock=False, **options)
    new = lmdb.open(str(fresh), **options)
    try:
        with old.begin() as txn:
            for name in [bytes(name) for name in txn.cursor().iternext(values=False)]:
                rows = txn.cursor(old.open_db(name, txn=txn, create=False)).iternext()
                target = new.open_db(name)
                while chunk := list(islice(rows, _ROWS)):
                    with new.begin(write=True) as writing:
                        writing.cursor(target).putmulti(chunk, append=True)
        new.sync(True)
    finally:
        new.close()
        old.close()
