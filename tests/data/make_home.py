"""Makes the home that is kept for the next release: `scripts/make-home`, with real Kafka, Spark, Delta and LMDB.

It has events, repeats, dead letters and rejects; two definitions of a view; two versions, states in an open
generation, and a view in quarantine. To be made again where a format changes, and kept beside the older ones.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import lmdb
from cases import make_events, make_source, make_views
from home_case import ANSWERS, ARCHIVE, answers, unpack
from installed import Installed

from tideline import Count, View, days, hours
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.installation import layer_session
from tideline.settings import load_settings
from tideline.spark import fold

TOPIC = "home-1"


def fill(installed: Installed) -> None:
    """All that the home holds."""
    source = make_source(TOPIC)
    everything, countries, totals = make_views(source)
    n = {"n": Count()}
    odd = View("odd", source=source, columns={"share": "100 % quantity"}, key="share", measures=n)
    recent = View("recent", source=source, bucket=hours(1), keep=days(1), measures=n)
    senders = View("senders", source=source, columns={"sender": "cast(_key as string)"}, key="sender", measures=n)
    installed.apply(everything, countries, totals, odd, recent)
    installed.send([*make_events(60, 1), b"junk", *make_events(10, 2, first=55)])
    installed.batch()
    sold = replace(totals, where="quantity > 0")
    installed.apply(everything, countries, sold, odd, recent, senders)
    installed.send(make_events(30, 3, first=65))
    installed.batch()
    with installed.speed(), patch.object(fold, "valid_text", lambda kind, sql: f"({sql})"):
        installed.send([*make_events(20, 4, first=95), b"more junk"])
        installed.send(make_events(1, 5, first=115), key=b"\xff")
        installed.wait_committed()
    assert [entry["view"] for entry in installed.ledger.quarantined.values()] == ["senders"]


def pack(home: Path, folder: Path) -> None:
    """The store without its free pages, the master and the segments."""
    kept = folder / "home"
    for name in ("master", "batch"):
        shutil.copytree(home / name, kept / name, ignore=shutil.ignore_patterns("*.crc"))
    (kept / "store").mkdir()
    with lmdb.open(str(home / "store"), readonly=True, max_dbs=1) as store:
        store.copy(str(kept / "store"), compact=True)
    with tarfile.open(ARCHIVE, "w:gz") as archive:
        archive.add(kept, "home")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Broker(Home(Path(folder) / "kafka").prepare()) as broker:
        place = Path(folder)
        spark = layer_session("make-home", Home(place / "spark").prepare(), load_settings(None, {}, {}), brief=True)
        installed = Installed(spark, broker.bootstrap, place / "installed", TOPIC)
        try:
            fill(installed)
            installed.store.sync()
            installed.store.close()
            pack(installed.home.path, place / "packed")
        finally:
            spark.stop()
        lines = [json.dumps(answer, ensure_ascii=False) for answer in answers(unpack(place / "unpacked"))]
        ANSWERS.write_text("[\n" + ",\n".join(lines) + "\n]\n", "utf-8")
    print(f"{ARCHIVE.name}: {ARCHIVE.stat().st_size} bytes, {ANSWERS.name}: {ANSWERS.stat().st_size} bytes")


if __name__ == "__main__":
    main()
