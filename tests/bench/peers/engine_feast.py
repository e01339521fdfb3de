"""Feast's Python feature server on its embedded online store (SQLite), with the counts of so many invoice lines."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import pandas as pd
from engine import serve
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Int64

REPOSITORY = """
project: bench
provider: local
registry: {folder}/registry.db
online_store: {{type: sqlite, path: {folder}/online.db}}
entity_key_serialization_version: 3
"""
CHUNK = 100_000


def start(keys: int, port: int, seed: int) -> dict[str, Any]:
    """Fills the store with the lines `seed-0` ... and serves it at this port."""
    folder = tempfile.mkdtemp(prefix="tideline-bench-")
    Path(folder, "feature_store.yaml").write_text(REPOSITORY.format(folder=folder), "utf-8")
    os.environ["FEAST_USAGE"] = "False"
    now = dt.datetime.now(dt.timezone.utc)
    file = f"{folder}/none.parquet"
    pd.DataFrame({"line_id": ["x"], "lines": [1], "quantity": [1], "at": [now]}).to_parquet(file)
    line = Entity(name="line_id", join_keys=["line_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name="by_line",
        entities=[line],
        schema=[Field(name="lines", dtype=Int64), Field(name="quantity", dtype=Int64)],
        source=FileSource(path=file, timestamp_field="at"),
    )
    store = FeatureStore(repo_path=folder)
    store.apply([line, view])
    for first in range(0, keys, CHUNK):
        ids = [f"{seed}-{number}" for number in range(first, min(first + CHUNK, keys))]
        store.write_to_online_store(
            "by_line", pd.DataFrame({"line_id": ids, "lines": 1, "quantity": 7, "at": now, "created": now})
        )
    feast = str(Path(sys.executable).parent / "feast")
    options = ["-h", "127.0.0.1", "-p", str(port), "--no-access-log", "--max-requests", "0"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([feast, "-c", folder, "serve", *options], **quiet)
    Running.process, Running.folder = process, folder
    until = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
            return {"url": f"http://127.0.0.1:{port}"}
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.2)


class Running:
    """The server, from `start` on."""

    process: subprocess.Popen[bytes]
    folder: str


def stop() -> dict[str, Any]:
    """Ends the server."""
    Running.process.send_signal(signal.SIGTERM)
    Running.process.wait(30)
    shutil.rmtree(Running.folder, ignore_errors=True)
    return {}


serve(start=start, stop=stop)
