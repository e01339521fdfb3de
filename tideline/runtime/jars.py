"""The locked jars of Spark's connectors and of the embedded Kafka broker, fetched once and kept in a cache.

`jars.lock` names every jar with its SHA-256; the Ivy that ships inside PySpark downloads what the cache
lacks.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from xml.sax.saxutils import quoteattr

from tideline.errors import OutsideError, Texts
from tideline.runtime.java import find_java

LOCK_FILE = Path(__file__).with_name("jars.lock")
RETRIEVE_PATTERN = "[organisation]_[artifact]-[revision](-[classifier]).[ext]"
_ATTEMPTS = 3


class JarError(OutsideError):
    """The locked jars cannot be had."""

    texts: ClassVar[Texts] = {
        "JARS_UNAVAILABLE": (
            "{count} jars could not be fetched, {first} among them: {reason}",
            "Maven Central must be reachable once; JAVA_TOOL_OPTIONS can name a proxy",
        ),
        "JAR_CHANGED": (
            "{jar} has SHA-256 {found}, the lock file says {locked}",
            "check what serves Maven Central here",
        ),
        "IVY_MISSING": ("PySpark's jars folder holds no Ivy", "install pyspark from PyPI again"),
        "CACHE_UNUSABLE": (
            "the cache {path} cannot be used: {reason}",
            "set TIDELINE_CACHE to a writable folder",
        ),
    }


@dataclass(frozen=True)
class Jar:
    """One locked jar: its Maven coordinates and the SHA-256 of its bytes."""

    org: str
    name: str
    rev: str
    sha256: str
    classifier: str | None = None

    @property
    def file_name(self) -> str:
        """The jar's name in the cache; the organisation is part of it, for two may share an artifact name."""
        suffix = f"-{self.classifier}" if self.classifier else ""
        return f"{self.org}_{self.name}-{self.rev}{suffix}.jar"


def read_lock(path: Path = LOCK_FILE) -> dict[str, tuple[Jar, ...]]:
    """The lock file's sets: `spark` (beside what PySpark ships) and `kafka` (the broker's class path)."""
    sets: dict[str, list[dict[str, Any]]] = json.loads(path.read_text("utf-8"))["sets"]
    return {name: tuple(Jar(**entry) for entry in entries) for name, entries in sets.items()}


def cache_folder() -> Path:
    """Where jars are kept: `$TIDELINE_CACHE/jars`, else `~/.cache/tideline/jars`."""
    root = os.environ.get("TIDELINE_CACHE")
    return (Path(root).expanduser() if root else Path.home() / ".cache" / "tideline") / "jars"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch_jars(cache_dir: Path | None = None, sets: Iterable[str] = ("spark", "kafka")) -> Path:
    """Bring the named sets into the cache and return its folder.

    With all jars there, it only compares sizes and times with the stamp of their last verification and starts
    no JVM. Raises JarError JARS_UNAVAILABLE (cannot be downloaded), JAR_CHANGED (the bytes are not the locked
    ones), CACHE_UNUSABLE, or find_java's.
    """
    folder = cache_dir or cache_folder()
    lock = read_lock()
    jars = list({jar.file_name: jar for name in sets for jar in lock[name]}.values())
    stamps = _read_stamps(folder)
    if all(jar.file_name in stamps and _stamp(folder, jar) == stamps[jar.file_name] for jar in jars):
        return folder
    with cache_locked(folder):
        stamps = _read_stamps(folder)
        missing = []
        for jar in jars:
            current = _stamp(folder, jar)
            if current is not None and (
                current == stamps.get(jar.file_name) or sha256_of(folder / jar.file_name) == jar.sha256
            ):
                stamps[jar.file_name] = current
            else:
                missing.append(jar)
        if missing:
            _download(folder, missing)
            stamps |= {jar.file_name: _stamp(folder, jar) or [] for jar in missing}
        _write_stamps(folder, stamps)
    return folder


def spark_jars(cache_dir: Path | None = None) -> list[Path]:
    """The jars for `spark.jars`, fetched if need be: Delta, the Kafka connector and what they need."""
    folder = fetch_jars(cache_dir, ("spark",))
    return [folder / jar.file_name for jar in read_lock()["spark"]]


def kafka_classpath(cache_dir: Path | None = None) -> str:
    """The class path of the embedded broker, fetched if it is not there."""
    folder = fetch_jars(cache_dir, ("kafka",))
    return os.pathsep.join(str(folder / jar.file_name) for jar in read_lock()["kafka"])


def ivy_jar() -> Path:
    """The Ivy that ships inside PySpark."""
    import pyspark

    found = sorted((Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar"))
    if not found:
        raise JarError("IVY_MISSING")
    return found[-1]


def run_ivy(work: Path, module: str, poms: bool) -> subprocess.CompletedProcess[str]:
    """Resolve an Ivy module file from Maven Central into `work/lib`, with caches inside `work`."""
    (work / "settings.xml").write_text(
        '<ivysettings><settings defaultResolver="central"/>'
        f"<caches defaultCacheDir={quoteattr(str(work / 'cache'))}/>"
        f'<resolvers><ibiblio name="central" m2compatible="true" usepoms="{str(poms).lower()}"/></resolvers>'
        "</ivysettings>",
        "utf-8",
    )
    (work / "ivy.xml").write_text(module, "utf-8")
    return subprocess.run(
        [
            find_java().path,
            f"-Divy.default.ivy.user.dir={work / 'user'}",
            "-jar",
            str(ivy_jar()),
            *("-settings", str(work / "settings.xml"), "-ivy", str(work / "ivy.xml"), "-warn"),
            *("-retrieve", str(work / "lib" / RETRIEVE_PATTERN)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def _module(jars: Iterable[Jar]) -> str:
    def dependency(jar: Jar) -> str:
        names = f"name={quoteattr(jar.name)}"
        classifier = f" m:classifier={quoteattr(jar.classifier)}" if jar.classifier else ""
        return (
            f"<dependency org={quoteattr(jar.org)} {names} rev={quoteattr(jar.rev)}"
            ' transitive="false" force="true">'
            f'<artifact {names} type="jar" ext="jar"{classifier}/></dependency>'
        )

    return (
        '<ivy-module version="2.0" xmlns:m="http://ant.apache.org/ivy/maven">'
        '<info organisation="tideline" module="jars"/><dependencies>'
        + "".join(dependency(jar) for jar in jars)
        + "</dependencies></ivy-module>"
    )


def _download(folder: Path, jars: list[Jar]) -> None:
    """Fetch into a scratch folder beside the cache, verify, and move each jar in with one rename."""
    print(f"tideline: fetching {len(jars)} jars into {folder}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
        wanted, reason = jars, ""
        for attempt in range(_ATTEMPTS):
            work = Path(scratch) / str(attempt)
            work.mkdir()
            try:
                done = run_ivy(work, _module(wanted), poms=False)
                reason = _first_fault(done.stdout + done.stderr)
            except subprocess.TimeoutExpired:
                reason = "the download took longer than 15 minutes"
            for jar in wanted:
                path = work / "lib" / jar.file_name
                if path.exists():
                    found = sha256_of(path)
                    if found != jar.sha256:
                        raise JarError("JAR_CHANGED", jar=jar.file_name, locked=jar.sha256, found=found)
                    os.replace(path, folder / jar.file_name)
            wanted = [jar for jar in wanted if not (folder / jar.file_name).exists()]
            if not wanted:
                return
    raise JarError("JARS_UNAVAILABLE", count=len(wanted), first=wanted[0].file_name, reason=reason)


def _first_fault(log: str) -> str:
    lines = [line.strip() for line in log.splitlines()]
    faults = [line for line in lines if "not found" in line or "rror" in line or "xception" in line]
    return (faults or lines or ["no output"])[0]


def _stamp(folder: Path, jar: Jar) -> list[Any] | None:
    try:
        status = (folder / jar.file_name).stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, jar.sha256]


def _read_stamps(folder: Path) -> dict[str, list[Any]]:
    try:
        stamps = json.loads((folder / "verified.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _write_stamps(folder: Path, stamps: dict[str, list[Any]]) -> None:
    scratch = folder / f"verified.json.{os.getpid()}"
    scratch.write_text(json.dumps(stamps, indent=0), "utf-8")
    os.replace(scratch, folder / "verified.json")


@contextmanager
def cache_locked(folder: Path) -> Iterator[None]:
    """Hold the file lock of a folder of the cache: two commands that start together fetch once."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        raise JarError("CACHE_UNUSABLE", path=str(folder), reason=error.strerror or str(error)) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for left in folder.glob(".fetch-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
