"""Environments of the peers: each its own, from a pinned file, in the cache beside the jars."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tideline.runtime.jars import run_ivy

HERE = Path(__file__).parent / "peers"
FLINK_KAFKA = ("org.apache.flink", "flink-sql-connector-kafka", "5.0.0-2.2")


class PeerMissing(Exception):
    """A peer cannot be installed here; the text says why."""


def peer_python(name: str) -> Path:
    """The Python of a peer's environment, made if need be. Raises PeerMissing."""
    cache = Path(os.environ.get("TIDELINE_CACHE") or Path.home() / ".cache" / "tideline") / "bench" / name
    wanted = (HERE / f"requirements-{name}.txt").read_text("utf-8")
    python, mark = cache / "bin" / "python", cache / "installed.txt"
    if mark.exists() and mark.read_text("utf-8") == wanted:
        return python
    print(f"bench: installing {name}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(cache)], check=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "-r", str(HERE / f"requirements-{name}.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerMissing(done.stderr.strip().splitlines()[-1])
    if name == "flink":
        _fetch(FLINK_KAFKA, cache / "kafka.jar")
    mark.write_text(wanted, "utf-8")
    return python


def _fetch(jar: tuple[str, str, str], target: Path) -> None:
    org, name, rev = jar
    module = (
        '<ivy-module version="2.0"><info organisation="tideline" module="bench"/><dependencies>'
        f'<dependency org="{org}" name="{name}" rev="{rev}" transitive="false"/></dependencies></ivy-module>'
    )
    with tempfile.TemporaryDirectory(prefix="tideline-bench-") as folder:
        done = run_ivy(Path(folder), module, poms=False)
        found = list((Path(folder) / "lib").glob("*.jar"))
        if not found:
            raise PeerMissing(f"{name}: {(done.stdout + done.stderr).strip()[-200:]}")
        shutil.move(found[0], target)
