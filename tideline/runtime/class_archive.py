"""Archives of the classes that Spark and the broker load, from which their JVMs start in some three fifths of the time.

They are Java's own (class data sharing, https://openjdk.org/jeps/350), made once for a Java and a class path. A JVM
that one does not fit goes without: it compares checksums, Java's build, and size and time of every jar.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Sequence

from tideline.errors import TidelineError
from tideline.runtime.jars import cache_folder
from tideline.runtime.java import find_java

_QUIET = ("-Xlog:cds=off", "-Xlog:cds+dynamic=off", "-Xlog:class+path=off")
_UNUSED = 30 * 86_400  # seconds after which an archive that nothing was started from is removed


class ClassArchive:
    """The archive of a class path, whether it was made or not. Raises JavaError."""

    def __init__(self, name: str, class_path: str) -> None:
        key = hashlib.sha256("\n".join((find_java().build, class_path)).encode()).hexdigest()[:16]
        self.path = cache_folder().with_name("classes") / f"{name}-{key}.jsa"
        self._size = self.path.with_suffix(".size")  # of a shorter file the JVM would only find out by a crash

    def is_tried(self) -> bool:
        """Whether it was made, or could not be."""
        return self._size.exists()

    def options(self) -> tuple[str, ...]:
        """What tells a JVM to start from it; nothing where there is none."""
        try:
            if self.path.stat().st_size != int(self._size.read_text("ascii")):
                return ()
        except (OSError, ValueError):
            return ()
        with contextlib.suppress(OSError):  # the cache is somebody else's
            os.utime(self.path)
        return f"-XX:SharedArchiveFile={self.path}", "-XX:+VerifySharedSpaces", *_QUIET

    def make(self, run: Callable[[Sequence[str]], None]) -> bool:
        """Makes it of the classes that a JVM has loaded when it ends, and says whether it could; removes unused ones.

        `run` starts the JVM with the options that it gets, and returns once it has ended. Raises OSError.
        """
        for other in self.path.parent.glob("*.jsa"):
            if other.stat().st_mtime < time.time() - _UNUSED:
                other.unlink()
                other.with_suffix(".size").unlink(missing_ok=True)
        made = self.path.with_suffix(f".{os.getpid()}")
        try:
            try:
                run((f"-XX:ArchiveClassesAtExit={made}", *_QUIET))
                size = made.stat().st_size if made.exists() else 0
            except (TidelineError, subprocess.SubprocessError):  # what there is may be a part of it
                size = 0
            if size:
                os.replace(made, self.path)
            self._size.write_text(str(size), "ascii")
        finally:
            made.unlink(missing_ok=True)
        return size > 0
