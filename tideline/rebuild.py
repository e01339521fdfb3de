"""Making the serving store anew from the master dataset, and from Kafka what is not archived yet."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tideline.apply import apply_catalog
from tideline.cut import Cut
from tideline.errors import OutsideError
from tideline.runtime.home import Home, HomeError, process_alive
from tideline.stores.lmdb import LmdbStore

if TYPE_CHECKING:
    from tideline.spark.resolve import Resolved


@contextmanager
def quiet_home(home: Home) -> Iterator[None]:
    """A home on which nothing else runs, and no `up` can start. Raises HomeError HOME_IN_USE."""
    with home.lock("up"):
        for name in ("speed", "batch"):
            home.lock(name).release()
        serving = int((home.read_status("serve") or {}).get("pid", 0))
        if serving and process_alive(serving):
            raise HomeError("HOME_IN_USE", path=str(home.path), pid=serving, name="serve")
        yield


def replace_store(home: Home, resolved: Resolved, bootstrap: str, partitions: int) -> Path | None:
    """Moves the store away and applies a catalog to a new one; where the old one is.

    Segments go too: their ids will be given again. Raises OutsideError HISTORY_LOST where the new store would begin
    after the old one, and leaves all as it was.
    """
    begins = _origin(home)
    moved = None
    if (home.store / "data.mdb").exists():
        moved = _free_name(home.path / "store.damaged")
        os.rename(home.store, moved)
    try:
        with LmdbStore.open(home.path, create=True) as store:
            apply_catalog(store, resolved, bootstrap, partitions, home.master)
            with store.snapshot() as snapshot:
                _refuse_loss(begins, snapshot.ledger.origin)
    except BaseException:
        shutil.rmtree(home.store, ignore_errors=True)
        if moved is not None:
            os.rename(moved, home.store)
        raise
    shutil.rmtree(home.batch, ignore_errors=True)
    home.prepare()
    return moved


def _origin(home: Home) -> Cut:
    """Where the old store's history begins, if it can still say so: in a process of its own, which a page may end."""
    asked = [sys.executable, "-m", "tideline.rebuild", str(home.path)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return Cut.from_json(json.loads(done.stdout)) if done.returncode == 0 else Cut()


def _refuse_loss(before: Cut, after: Cut) -> None:
    for topic, partition, offset in before.partitions():
        begin = after.offset(topic, partition)
        if begin > offset:
            raise OutsideError(
                "HISTORY_LOST",
                f"{topic} partition {partition}: offsets [{offset}, {begin}) are neither in the master nor in Kafka",
                "put the master back from a backup; or move the folder store away too, and begin at what Kafka holds",
                topic=topic,
                partition=partition,
                begin=offset,
                end=begin,
            )


def _free_name(path: Path) -> Path:
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


if __name__ == "__main__":
    with LmdbStore.open(sys.argv[1], readonly=True) as old, old.snapshot() as found:
        print(json.dumps(found.ledger.origin.to_json()))
