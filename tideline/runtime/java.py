"""The Java that the broker and Spark run on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from tideline.errors import OutsideError, Texts

MINIMUM = 17
_HINT = "install a Java {minimum}+ runtime, such as openjdk-{minimum}-jre-headless, or point JAVA_HOME at one"


class JavaError(OutsideError):
    """No Java that Spark and Kafka run on."""

    texts: ClassVar[Texts] = {
        "JAVA_MISSING": ("no Java found (looked at {looked})", _HINT),
        "JAVA_UNUSABLE": ("{path} does not run as a Java", _HINT),
        "JAVA_TOO_OLD": ("{path} is Java {version}, Tideline needs {minimum} or newer", _HINT),
    }


@dataclass(frozen=True)
class Java:
    """A Java executable, its feature version, such as 17, and what tells its build from others."""

    path: str
    version: int
    build: str


def parse_version(text: str) -> int | None:
    """The feature version in what `java -version` prints: 17 for "17.0.15", 8 for "1.8.0_292"."""
    match = re.search(r'version "(\d+)(?:\.(\d+))?', text)
    if not match:
        return None
    major, minor = int(match[1]), match[2]
    return int(minor) if major == 1 and minor else major


def _executable() -> str | None:
    home = os.environ.get("JAVA_HOME")
    if home:
        path = os.path.join(home, "bin", "java")
        return path if os.access(path, os.X_OK) else None
    return shutil.which("java")


@cache
def _inspect(path: str) -> Java:
    try:
        done = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=60, check=False)
        said = done.stderr + done.stdout
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    version = parse_version(said)
    if version is None:
        raise JavaError("JAVA_UNUSABLE", path=path, minimum=MINIMUM)
    return Java(path, version, " ".join([os.path.realpath(path), *re.findall(r"\(build ([^,)]+)", said)]))


def find_java() -> Java:
    """The Java that Spark would pick too: JAVA_HOME's, else the one on PATH.

    Raises JavaError JAVA_MISSING, JAVA_UNUSABLE, or JAVA_TOO_OLD below version 17.
    """
    path = _executable()
    if path is None:
        home = os.environ.get("JAVA_HOME")
        raise JavaError("JAVA_MISSING", looked=f"JAVA_HOME={home}" if home else "PATH", minimum=MINIMUM)
    java = _inspect(path)
    if java.version < MINIMUM:
        raise JavaError("JAVA_TOO_OLD", path=path, version=java.version, minimum=MINIMUM)
    return java
