"""The home of a release that is kept for its successors: what it is asked, and the answers it gave."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline.ledger import Ledger

HERE = Path(__file__).parent
ARCHIVE, ANSWERS = HERE / "home-1.tar.gz", HERE / "home-1.json"


def unpack(folder: Path) -> Path:
    """A copy of the home in `folder`."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "home"


def questions(ledger: Ledger) -> list[Query]:
    """Every view, live and in every version."""
    live = [Query(name) for name in sorted(ledger.live)]
    old = [Query(name, version=version.id) for version in ledger.versions for name in sorted(version.live)]
    return live + old


def answers(home: Path) -> list[dict[str, Any]]:
    """What the home says to the questions, as JSON carries it; not how fresh it is."""
    with Reader(home) as reader:
        found = [result.to_json() for result in reader.query_many(questions(reader.ledger()))]
    return [json.loads(json.dumps({**one, "proof": {**one["proof"], "freshness": None}})) for one in found]
