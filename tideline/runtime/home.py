"""The home folder of an installation: all its state, who holds it, what its processes say of themselves."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar

from tideline.errors import OutsideError, Texts

MINIMUM_FREE = 100 << 20  # bytes
_STARTED = time.time()  # of this process, or nearly so


class HomeError(OutsideError):
    """The home folder cannot be used."""

    texts: ClassVar[Texts] = {
        "HOME_IN_USE": (
            "{path} is in use: process {pid} holds its {name} lock",
            "stop that process, or choose another --home",
        ),
        "HOME_NOT_A_FOLDER": ("{path} is not a folder", "choose another --home"),
        "HOME_NAME": (
            "{path} has a % or a backslash in it, and no Delta table is found there",
            "choose another --home",
        ),
        "HOME_MISSING": ("there is no Tideline home at {path}", "check --home; tideline up makes a new one"),
        "HOME_NOT_WRITABLE": (
            "{path} cannot be written: {reason}",
            "check its permissions, or choose another --home",
        ),
        "HOME_FULL": (
            "the disk of {path} has {free_mb} MB left, Tideline wants {minimum_mb}",
            "free some space, or choose another --home",
        ),
    }


class Home:
    """Paths inside a home folder. Making one touches nothing; `prepare` does."""

    def __init__(self, path: str | os.PathLike[str] = ".tideline") -> None:
        self.path = Path(path).expanduser().resolve()
        self.store = self.path / "store"
        self.master = self.path / "master"
        self.batch = self.path / "batch"
        self.kafka = self.path / "kafka"
        self.run = self.path / "run"
        self.logs = self.run / "logs"
        self.tmp = self.path / "tmp"

    def __repr__(self) -> str:
        return f"Home({str(self.path)!r})"

    def prepare(self) -> Home:
        """Make the folders that are missing and check that they can be written.

        Raises HomeError HOME_NAME, HOME_NOT_A_FOLDER, HOME_NOT_WRITABLE, or HOME_FULL below 100 MB of free space.
        """
        if re.search(r"[%\\]", str(self.path)):
            raise HomeError("HOME_NAME", path=str(self.path))
        try:
            for folder in (
                self.path,
                self.store,
                self.master,
                self.batch,
                self.kafka,
                self.run,
                self.logs,
                self.tmp,
            ):
                folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.run) as probe:
                probe.write(b"\0")
        except OSError as error:
            raise self._fault(error) from error
        if shutil.disk_usage(self.path).free < MINIMUM_FREE:
            raise self._full()
        return self

    def require(self) -> Home:
        """This home, if there is one; one that came back from a backup gets its `run` folder. Raises HomeError."""
        if self.run.is_dir():
            return self
        if not self.store.is_dir():
            raise HomeError("HOME_MISSING", path=str(self.path))
        return self.prepare()

    def lock(self, name: str) -> HomeLock:
        """Take the lock `name` for this process, until it is released or the process ends.

        Raises HomeError HOME_IN_USE naming the process that holds it.
        """
        path = self.run / f"{name}.lock"
        try:
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise self._fault(error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise HomeError("HOME_IN_USE", path=str(self.path), pid=owner, name=name) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        return HomeLock(file)

    def locked_by(self, name: str) -> int | None:
        """The process that holds the lock `name` now, if any does."""
        try:
            with (self.run / f"{name}.lock").open("r", encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    text = file.read().strip()
                    return int(text) if text.isdigit() else 0
        except OSError:
            pass
        return None

    def write_status(self, layer: str, status: Mapping[str, Any]) -> None:
        """Replace `run/<layer>.json` at once; `pid`, `at` and `started_at` (seconds since epoch) are added."""
        path = self.run / f"{layer}.json"
        scratch = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            own = {"pid": os.getpid(), "at": time.time(), "started_at": _STARTED}
            scratch.write_text(json.dumps({**own, **status}), "utf-8")
            os.replace(scratch, path)
        except OSError as error:
            raise self._fault(error) from error

    def read_status(self, layer: str) -> dict[str, Any] | None:
        """What `run/<layer>.json` says, or None where there is none. Its process may have ended since."""
        try:
            status = json.loads((self.run / f"{layer}.json").read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return status if isinstance(status, dict) else None

    def clear_status(self, layer: str) -> None:
        """Remove `run/<layer>.json`."""
        (self.run / f"{layer}.json").unlink(missing_ok=True)

    def _fault(self, error: OSError) -> HomeError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return self._full()
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            return HomeError("HOME_NOT_A_FOLDER", path=str(error.filename or self.path))
        if error.errno == errno.ENOENT:
            return HomeError("HOME_MISSING", path=str(self.path))
        return HomeError("HOME_NOT_WRITABLE", path=str(self.path), reason=error.strerror or str(error))

    def _full(self) -> HomeError:
        free = shutil.disk_usage(self.path).free >> 20 if self.path.exists() else 0
        return HomeError("HOME_FULL", path=str(self.path), free_mb=free, minimum_mb=MINIMUM_FREE >> 20)


class HomeLock:
    """A lock that this process holds; a context manager. However the process ends, the lock is released."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def release(self) -> None:
        """Give it up; a second release does nothing."""
        if not self._file.closed:
            self._file.truncate(0)
            self._file.close()

    def __enter__(self) -> HomeLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


def process_alive(pid: int) -> bool:
    """Whether a process of this id exists and is not a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return True
    except OSError:
        return False
    return fields[0] not in ("Z", "X")
