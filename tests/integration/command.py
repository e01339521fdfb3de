"""Running `tideline` as its users do: as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installed import wait_for

START = 240.0  # seconds for a whole stack on a busy machine


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """What it said of what is wrong; one line, and nothing like a traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("tideline: ")]
        assert "Traceback" not in self.err, self.err
        assert len(lines) == 1, self.err
        return lines[0]


def argv(*words: str) -> list[str]:
    return [sys.executable, "-m", "tideline.cli.main", *words]


def tideline(*words: str | Path, timeout: float = 120.0) -> Outcome:
    """Runs a command to its end."""
    command = argv(*map(str, words))
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


def processes_of(home: Path) -> dict[int, str]:
    """The processes that name a home in their command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                state = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
            except OSError:
                continue
            if str(home) in command and state != "Z":
                found[int(entry.name)] = command
    return found


class Up:
    """A running `tideline up`."""

    def __init__(self, process: subprocess.Popen[str], home: Path, said: Path) -> None:
        self.process = process
        self.home = home
        self.said = said

    def run(self, *words: str | Path, timeout: float = 120.0) -> Outcome:
        """Another command on the same home."""
        return tideline(words[0], "--home", self.home, *words[1:], timeout=timeout)

    def status(self) -> Any:
        return self.run("status", "-o", "json").json

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def up(folder: Path, catalog: Path, *options: str) -> Iterator[Up]:
    """`tideline up` on a fresh home, ready; whatever happens, it is gone at the end."""
    home = folder / "home"
    command = argv("up", "--home", str(home), "--catalog", str(catalog), "--ports", "auto", *options)
    with tempfile.TemporaryFile("w+", dir=folder) as out, (folder / "up.err").open("w") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, text=True)
        running = Up(process, home, folder / "up.err")

        def ready() -> bool:
            assert process.poll() is None, running.said.read_text()
            out.seek(0)
            return "ready: " in out.read()

        try:
            wait_for(ready, "tideline up is ready", START)
            yield running
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(10)
            for pid in processes_of(home):
                os.kill(pid, signal.SIGKILL)
