"""A catalog: the sources and views that a Python file declares."""

from __future__ import annotations

import contextlib
import runpy
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tideline.errors import DefinitionError, UsageError
from tideline.options import SOURCE_OPTIONS, VIEW_OPTIONS, check_options
from tideline.source import Source
from tideline.view import View

T = TypeVar("T", Source, View)


@dataclass(frozen=True)
class Catalog:
    """The declared sources and views, each by name."""

    sources: dict[str, Source]
    views: dict[str, View]


def load_catalog(path: str | Path) -> Catalog:
    """Runs a catalog file and collects the values of its module. Raises UsageError or DefinitionError."""
    file = Path(path)
    if not file.is_file():
        raise UsageError(
            "NO_CATALOG",
            f"there is no catalog file {path}",
            "give a Python file that declares sources and views",
            path=str(path),
        )
    sys.path.insert(0, str(file.resolve().parent))
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the command's own output
            values = runpy.run_path(str(file))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a user's Python raises
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        line = lines[-1] if lines else getattr(error, "lineno", None)
        place = f"{file}:{line}" if line else str(file)
        if isinstance(error, DefinitionError):
            raise DefinitionError(error.condition, **{"at": place, **error.params}) from None
        raise DefinitionError(
            "CATALOG_FAILED",
            f"{place}: {type(error).__name__}: {error}",
            "correct the catalog's Python",
            at=place,
            error=type(error).__name__,
        ) from None
    finally:
        sys.path.pop(0)
    return collect_catalog(list(values.values()), str(path))


def collect_catalog(values: list[object], where: str) -> Catalog:
    """A catalog of these values; lists and tuples are looked into. Raises DefinitionError for two of one name."""
    sources: dict[str, Source] = {}
    views: dict[str, View] = {}
    for value in _flat(values):
        if isinstance(value, View):
            _add(views, _checked(value))
            _add(sources, _checked(value.source))
        elif isinstance(value, Source):
            _add(sources, _checked(value))
    if not views:
        raise DefinitionError(
            "EMPTY_CATALOG", f"{where} declares no view", "assign at least one View to a name", at=where
        )
    topics: dict[str, Source] = {}
    for source in sources.values():
        other = topics.setdefault(source.topic or source.name, source)
        if other is not source:
            raise DefinitionError(
                "ONE_SOURCE_PER_TOPIC", of=f"source {source.name}", at=str(source.location), other=other.name
            )
    return Catalog(sources, views)


def _flat(values: list[object]) -> list[object]:
    found: list[object] = []
    for value in values:
        found += value if isinstance(value, (list, tuple)) else [value]
    return found


def _checked(declared: T) -> T:
    """A source or view whose options are of their types. Raises DefinitionError BAD_OPTION."""
    kind = type(declared).__name__.lower()
    with declared.location.of(f"{kind} {declared.name}"):
        check_options(declared, VIEW_OPTIONS if isinstance(declared, View) else SOURCE_OPTIONS)
        if isinstance(declared, View) and not isinstance(declared.source, Source):
            found = repr(declared.source)[:100]
            raise DefinitionError("BAD_OPTION", option="source", value=found, expected="a Source")
    return declared


def _add(known: dict[str, Any], value: Source | View) -> None:
    other = known.setdefault(value.name, value)
    if other is not value:
        raise DefinitionError(
            "DUPLICATE_NAME",
            of=f"{type(value).__name__.lower()} {value.name}",
            at=str(value.location),
            first=str(other.location),
            expected="one declaration for each name",
        )
