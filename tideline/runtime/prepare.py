"""What is made once on a machine, or in an image: the jars, and archives of their classes. `main` is the program."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tideline.errors import TidelineError
from tideline.runtime.broker import Broker, broker_archive
from tideline.runtime.class_archive import ClassArchive
from tideline.runtime.home import Home
from tideline.runtime.jars import JarError, cache_locked, fetch_jars
from tideline.runtime.spark_conf import spark_archive

_PATIENCE = 300.0  # seconds
_CLASS_PATHS = ("SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR")
"""Folders that Spark puts into its class path, where an archive takes none."""


def main() -> int:
    """Makes what is not there; prints the folder of the jars."""
    try:
        folder = fetch_jars()
        with _temporary_home() as home:
            make_archive("Spark", spark_archive(), lambda options: _load_spark(home, options))
            make_archive("the broker", broker_archive(), lambda options: _load_broker(home, options))
    except TidelineError as error:
        print(f"tideline: {error}", file=sys.stderr)
        return error.exit_code
    print(folder)
    return 0


@contextmanager
def _temporary_home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="tideline-prepare-") as folder:
        yield Home(folder)


def make_archive(what: str, archive: ClassArchive, load: Callable[[Sequence[str]], None]) -> None:
    """Makes it unless that was tried; says so, and why there is none."""
    if archive.is_tried():
        return
    try:
        with cache_locked(archive.path.parent):
            if archive.is_tried():
                return
            print(f"tideline: archiving the classes of {what}, for quicker starts", file=sys.stderr, flush=True)
            if not archive.make(load):
                print(f"tideline: this Java does not archive them; {what} starts as before", file=sys.stderr)
    except (OSError, JarError) as error:  # a cache that others fill, a full disk
        print(f"tideline: no archive of classes could be kept: {error}; {what} starts as before", file=sys.stderr)


def _load_spark(home: Home, options: Sequence[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in _CLASS_PATHS}
    command = [sys.executable, "-m", "tideline.spark.warm_up", str(home.path), *options]
    subprocess.run(command, env=environment, capture_output=True, timeout=_PATIENCE, check=True)


def _load_broker(home: Home, options: Sequence[str]) -> None:
    Broker(home.prepare(), java_options=options).start().stop(_PATIENCE)  # it writes the archive as it ends


if __name__ == "__main__":
    sys.exit(main())
