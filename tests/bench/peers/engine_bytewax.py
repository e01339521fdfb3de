"""Bytewax on a backlog: two workers in processes of their own, from their start to the end of the topic."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from engine import serve

FLOW = Path(__file__).with_name("flow_bytewax.py")


def drain(bootstrap: str, topic: str, answers: str, workers: int) -> dict[str, Any]:
    """Each worker process writes its own keys."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"BENCH_BOOTSTRAP": bootstrap, "BENCH_TOPIC": topic, "BENCH_FOLDER": folder}
        began = time.monotonic()
        command = [sys.executable, "-m", "bytewax.testing", f"{FLOW}:flow", "-p", str(workers)]
        subprocess.run(command, check=True, env={**environment, "PATH": "/usr/bin:/bin"})
        ended = time.monotonic()
        started = min(float(path.read_text()) for path in Path(folder).glob("*.start"))
        found: dict[str, dict[str, Any]] = {"by_product": {}, "by_customer": {}, "by_hour": {}}
        for path in Path(folder).glob("*.json"):
            for view, rows in json.loads(path.read_text("utf-8")).items():
                found[view].update(rows)
    Path(answers).write_text(json.dumps(found), "utf-8")
    return {"seconds": ended - started, "with_start": ended - began}


serve(drain=drain)
