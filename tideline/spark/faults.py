"""What Spark raises, as an error that says which place is broken and what to do there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from deltalake.exceptions import CommitFailedError, DeltaError
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from tideline.errors import OutsideError, Texts
from tideline.runtime.topics import KafkaFault

_FULL = ("No space left on device", "Disk quota exceeded")
_TOLD = "a fault of Kafka: "
_LONGEST = 300  # characters of Java's text in a message


class TableFault(OutsideError):
    """A Delta table, or the disk that it is on, cannot be used."""

    texts: ClassVar[Texts] = {
        "DISK_FULL": (
            "the disk of {path} is full: {reason}",
            "free some space and start again; nothing that was committed is lost",
        ),
        "MASTER_DAMAGED": (
            "the master at {path} cannot be read: {reason}",
            "stop everything on this home, put the file back, or move this folder away and run "
            "`tideline rebuild --catalog FILE`: what Kafka still holds is archived again",
        ),
        "SEGMENTS_DAMAGED": (
            "the segments at {path} cannot be read: {reason}",
            "move this folder away and run `tideline batch --full`",
        ),
    }


def of_worker(fault: KafkaFault) -> RuntimeError:
    """What a worker raises for a fault: Spark hands on the text alone, from which `kafka_fault` has it again."""
    return RuntimeError(_TOLD + json.dumps([fault.condition, fault.params]))


def kafka_fault(error: BaseException) -> KafkaFault | None:
    """The fault that a worker met when it read from Kafka."""
    found = re.search(f"{re.escape(_TOLD)}(.*)", str(error))
    if found is None:
        return None
    condition, params = json.loads(found[1])
    return KafkaFault(condition, **params)


@contextmanager
def table_faults(path: Path, damaged: str | None = None) -> Iterator[None]:
    """Errors of Spark, Delta and the disk as TableFault DISK_FULL, or `damaged` where they name the table; and what
    workers met with Kafka as KafkaFault."""
    try:
        yield
    except (Py4JJavaError, PySparkException, DeltaError, OSError) as error:
        fault = kafka_fault(error) or disk_fault(error, path)
        if fault is None and damaged is not None and _is_damage(error, path):
            fault = TableFault(damaged, path=str(path), reason=cause_of(error))
        if fault is None:
            raise
        raise fault from error


def _is_damage(error: Exception, path: Path) -> bool:
    """Whether an error is about what a table holds; a commit that another one came before is not."""
    if isinstance(error, DeltaError):
        return not isinstance(error, CommitFailedError)
    return str(path) in str(error) or "[DELTA_" in str(error)


def disk_fault(error: BaseException, path: Path) -> TableFault | None:
    """The fault where an error comes from a full disk; `path` is what was written."""
    text = str(error)
    if not any(full in text for full in _FULL):
        return None
    line = next(line for line in reversed(text.splitlines()) if any(full in line for full in _FULL))
    return TableFault("DISK_FULL", path=str(path), reason=_short(line))


def cause_of(error: BaseException) -> str:
    """The innermost cause in Java's text, or the first line of another's, on one line."""
    lines = str(error).splitlines()
    causes = [line for line in lines if line.startswith("Caused by: ")]
    named = causes or [line for line in lines if "Exception" in line]
    return _short((named or lines[:1] or [type(error).__name__])[-1])


def _short(line: str) -> str:
    text = re.sub(r"^(: |Caused by: )|\b[a-z]\w*(\.[a-z]\w*)+\.(?=[A-Z])", "", line.strip())
    return text[:_LONGEST]
