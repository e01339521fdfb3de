"""A source: a Kafka topic whose records decode to events of one schema."""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tideline.durations import to_micros
from tideline.erased import Erased
from tideline.errors import DefinitionError, UsageError
from tideline.location import Location, declared_at
from tideline.types import STRING, Column, parse_schema, schema_text

DECODER_VERSION = 1
INSERT, RETRACT = "insert", "retract"
LONGEST_NAME = 200  # bytes; a source's name is a folder's


def check_name(name: str) -> None:
    """Raises DefinitionError BAD_NAME unless `name` fits a source or a view."""
    if not name.replace("-", "_").isidentifier() or len(name.encode()) > LONGEST_NAME:
        expected = f"letters, digits, _ and -, at most {LONGEST_NAME} bytes"
        raise DefinitionError("BAD_NAME", name=name[:100], expected=expected)


def check_known(name: str, sources: Iterable[str]) -> None:
    """Raises UsageError UNKNOWN_SOURCE unless `name` is one of `sources`."""
    known = sorted(sources)
    if name not in known:
        similar = difflib.get_close_matches(name, known)
        raise UsageError("UNKNOWN_SOURCE", source=name, known=known, similar=similar)


@dataclass(frozen=True)
class Source:
    """Declares a topic of JSON records.

    `schema` lists the columns, `event_time` names the timestamp column that places an event in time (or
    `_timestamp`, the record's own), `event_id` the column that identifies an event, by which repeats within the
    previous `horizon` offsets of its partition are not counted. Events dated more than `max_ahead` after or
    `max_behind` before their record's time stamp are dead letters. `topic` defaults to the name. `operation` names a
    text column that is `insert` (or null) or `retract`: a retraction carries a row again and takes one such row away.
    """

    name: str
    schema: str
    event_time: str
    event_id: str | None = None
    topic: str | None = None
    max_ahead: dt.timedelta | None = dt.timedelta(days=1)
    max_behind: dt.timedelta | None = None
    horizon: int = 1_000_000
    operation: str | None = None
    location: Location = field(default_factory=declared_at, compare=False, repr=False)

    def resolve(self) -> SourceDefinition:
        """The checked, plain form. Raises DefinitionError naming file and line."""
        with self.location.of(f"source {self.name}"):
            return self._resolve()

    def _resolve(self) -> SourceDefinition:
        check_name(self.name)
        topic = self.topic or self.name
        if not re.fullmatch("[A-Za-z0-9._-]{1,249}", topic) or topic in (".", ".."):
            expected = "at most 249 letters a to z, digits, ., _ and -, as Kafka takes them"
            raise DefinitionError("BAD_OPTION", option="topic", value=topic[:100], expected=expected)
        columns = parse_schema(self.schema)
        by_name = {column.name: column for column in columns}
        roles = (("event_time", self.event_time), ("event_id", self.event_id), ("operation", self.operation))
        for role, name in roles:
            if name is not None and name not in by_name and not (role == "event_time" and name == "_timestamp"):
                raise DefinitionError("UNKNOWN_COLUMN", role=role, column=name, known=sorted(by_name))
        if self.event_time != "_timestamp" and by_name[self.event_time].type.name != "timestamp":
            raise DefinitionError(
                "TYPE_MISMATCH",
                role="event_time",
                column=self.event_time,
                type=by_name[self.event_time].type.sql,
                expected="timestamp",
            )
        if self.event_id and not (
            by_name[self.event_id].type.is_integer or by_name[self.event_id].type.name == "string"
        ):
            raise DefinitionError(
                "TYPE_MISMATCH",
                role="event_id",
                column=self.event_id,
                type=by_name[self.event_id].type.sql,
                expected="string or an integer type",
            )
        self._check_operation(by_name)
        if self.horizon < 0:
            raise DefinitionError("BAD_OPTION", option="horizon", value=self.horizon, expected="0 or more")
        for option in ("max_ahead", "max_behind"):
            bound = getattr(self, option)
            if bound is not None and to_micros(bound) < 0:
                raise DefinitionError("BAD_OPTION", option=option, value=str(bound), expected="0 or more, or None")
        return SourceDefinition(
            self.name,
            topic,
            columns,
            self.event_time,
            self.event_id,
            None if self.max_ahead is None else to_micros(self.max_ahead),
            None if self.max_behind is None else to_micros(self.max_behind),
            self.horizon,
            self.operation,
        )

    def _check_operation(self, columns: Mapping[str, Column]) -> None:
        if self.operation is None:
            return
        if columns[self.operation].type != STRING or self.operation == self.event_id:
            raise DefinitionError(
                "TYPE_MISMATCH",
                role="operation",
                column=self.operation,
                type=columns[self.operation].type.sql,
                expected=f"string, a column of its own that holds {INSERT} or {RETRACT}",
            )
        if self.event_time == "_timestamp":
            raise DefinitionError(
                "NOT_RETRACTABLE",
                role="event_time",
                column=self.event_time,
                expected="a column that a retraction carries again: its record has another time stamp",
            )


@dataclass(frozen=True)
class SourceDefinition:
    """A checked source; lengths of time in microseconds.

    `erased` is no part of a declaration: `tideline erase` adds to it, and the ledger keeps it.
    """

    name: str
    topic: str
    schema: tuple[Column, ...]
    event_time: str
    event_id: str | None
    max_ahead: int | None
    max_behind: int | None
    horizon: int
    operation: str | None = None
    erased: Erased | None = None

    def column(self, name: str) -> Column:
        """The schema's column of that name."""
        return next(column for column in self.schema if column.name == name)

    @property
    def fingerprint(self) -> str:
        """A hash of how records decode; 16 hexadecimal digits."""
        text = json.dumps({**self.to_json(), "decoder": DECODER_VERSION}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "topic": self.topic,
            "schema": schema_text(self.schema),
            "event_time": self.event_time,
            "event_id": self.event_id,
            "max_ahead": self.max_ahead,
            "max_behind": self.max_behind,
            "horizon": self.horizon,
            **({"operation": self.operation} if self.operation else {}),
            **({"erased": self.erased.to_json()} if self.erased else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SourceDefinition:
        erased = Erased.from_json(data["erased"]) if data.get("erased") else None
        return cls(**{**data, "schema": parse_schema(data["schema"]), "erased": erased})
