"""A view: measures over the events of a source, by key and time bucket. Declared once, run by every layer."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tideline.location import Location, declared_at
from tideline.measures import Measure
from tideline.source import Source


@dataclass(frozen=True)
class View:
    """Declares a view.

    `columns` names row expressions that the others may use, `where` filters events, `key` names the columns to group by
    (none for one group), `bucket` is the width of the time buckets, aligned to 1970-01-01 UTC (none for all time),
    `measures` are kept for every key and bucket, `answers` are expressions over the measures' answers, and `keep`
    is how long buckets are kept after the latest event.
    """

    name: str
    source: Source
    measures: Mapping[str, Measure]
    key: str | Sequence[str] = ()
    bucket: dt.timedelta | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    where: str | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    keep: dt.timedelta | None = None
    location: Location = field(default_factory=declared_at, compare=False, repr=False)

    @property
    def key_names(self) -> tuple[str, ...]:
        """The key's columns in order."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)
