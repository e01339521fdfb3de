"""`tideline verify` for those who ask over HTTP: one run at a time, in a process that gives way to all others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from tideline.errors import EXIT_DONE, EXIT_NO
from tideline.runtime import guard
from tideline.runtime.home import Home

_RUN = (
    "import sys; from tideline.runtime.priority import give_way; from tideline.cli.main import main; "
    "give_way(10); sys.exit(main(sys.argv[1:]))"
)
Json = dict[str, Any]


class Verifier:
    """Runs verifications of one home; safe to use from several threads."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._state: Json = {"running": False, "views": None, "started_at": None, "seconds": None} | _NOTHING

    def state(self) -> Json:
        """`running`, `views` (null: all), `started_at` (seconds since the epoch), `seconds`, `report`, `error`.

        `report` is what `tideline verify -o json` printed; `error` says why there is none.
        """
        with self._lock:
            state = dict(self._state)
        if state["running"]:
            state["seconds"] = round(time.time() - state["started_at"], 1)
        return state

    def start(self, views: Sequence[str]) -> Json:
        """Begins a run over these views, or all, unless one is under way; the state."""
        with self._lock:
            if not self._state["running"]:
                about = {"running": True, "views": list(views) or None, "started_at": time.time(), "seconds": 0.0}
                self._state = about | _NOTHING
                threading.Thread(target=self._run, args=(list(views),), daemon=True).start()
        return self.state()

    def _run(self, views: list[str]) -> None:
        """In a thread that lasts as long as the process, which dies with it."""
        command = [sys.executable, "-c", _RUN, "verify", *views, "--home", str(self._home.path), "-o", "json"]
        guarded = [sys.executable, "-I", "-S", str(guard.__file__), str(os.getpid()), *command]
        began, found = time.monotonic(), dict(_NOTHING)
        try:
            with subprocess.Popen(
                guarded,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            ) as process:
                self._process = process
                output, errors = process.communicate()
            if process.returncode in (EXIT_DONE, EXIT_NO):
                found["report"] = json.loads(output)
            else:
                lines = errors.decode("utf-8", "replace").strip().splitlines()
                found["error"] = lines[-1].removeprefix("tideline: ") if lines else f"exit code {process.returncode}"
        except (OSError, ValueError) as error:
            found["error"] = str(error)
        with self._lock:
            self._process = None
            self._state |= found | {"running": False, "seconds": round(time.monotonic() - began, 1)}

    def close(self) -> None:
        """Ends a run that is under way."""
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()


_NOTHING: Json = {"report": None, "error": None}
