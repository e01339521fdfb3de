"""A sample of events, read as `tideline produce` would send them and as the decoder parses them.

What separates cells, what a name is, which lines are broken: all of that is decided there, and not a second time here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tideline.decode_record import Dead, parse_record
from tideline.errors import UsageError
from tideline.eventfiles import EventFile
from tideline.types import Column

ROWS = 20_000  # of a file that are looked at
_BYTES = 1 << 26  # and no more than so many


@dataclass
class Sample:
    """The first events of a file: their bytes, and their fields by name; how many lines are none, by reason."""

    values: list[bytes] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    dead: Counter[str] = field(default_factory=Counter)
    header: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of all fields, in the order in which they come up."""
        return list(dict.fromkeys([*self.header, *(name for row in self.rows for name in row)]))

    def add(self, value: bytes | None) -> None:
        """Takes a record, which is an event or is counted as none."""
        try:
            self.rows.append(parse_record(value))
        except Dead as dead:
            self.dead[str(dead)] += 1
        else:
            self.values.append(value or b"")

    @property
    def note(self) -> list[str]:
        """A line on what is no event, if something is."""
        dead = self.dead.total()
        reason = next(iter(self.dead), "")
        return [f"dead letters among the first {dead + len(self.rows)} records: {dead} ({reason})"] if dead else []


def read_sample(
    file: Path,
    columns: Iterable[Column] = (),
    event_id: str | None = None,
    row_id: str | None = None,
    most: int = ROWS,
) -> Sample:
    """The first events of a file, at most `most`, of its first 20,000 rows; the parameters are those of `EventFile`.

    Raises UsageError where the file cannot be read, or most of its lines are no events.
    """
    events, sample, size = EventFile(file, columns, event_id, row_id, ROWS), Sample(), 0
    for event in events:
        sample.add(event.value)
        size += len(event.value)
        if len(sample.rows) == most or size > _BYTES:
            break
    sample.header = events.header
    if len(sample.rows) <= sample.dead.total() and len(sample.rows) < most:
        text = f"{file} holds no events" if not sample.rows else f"{file} holds few events"
        known = {"csv": "a line of names, then rows in UTF-8", "json": "one JSON object a line, in UTF-8"}
        hint = f"it has to hold {known[events.format]}"
        raise UsageError("NO_EVENTS", ": ".join([text, *sample.note]), hint, path=str(file))
    return sample
