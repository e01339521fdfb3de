"""Where in a catalog a source or view was declared, so that an error can say so."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from tideline.errors import DefinitionError

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


@dataclass(frozen=True)
class Location:
    """A file and a line in it."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @contextlib.contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Adds `what` and this place to a DefinitionError raised inside."""
        try:
            yield
        except DefinitionError as error:
            known = {"of": what[:200], "at": str(self)}
            raise DefinitionError(error.condition, **{**known, **error.params}) from None


def declared_at() -> Location:
    """The nearest caller outside this package and outside generated code."""
    frame = sys._getframe(1)
    while frame.f_back and (frame.f_code.co_filename.startswith((_PACKAGE, "<string>"))):
        frame = frame.f_back
    return Location(frame.f_code.co_filename, frame.f_lineno)
