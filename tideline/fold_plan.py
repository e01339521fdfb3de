"""How the views of a source are folded together: which aggregates they need, and where each stands in the result.

Every event gives a row to each view that it belongs to, and one to each category that a map-like measure counts; what
became of the records is counted too, as if the log had a view of its own. A row has a group (view, key, bucket, entry)
and the inputs of the aggregates. Aggregates are *slots* shared between views: two views with a sum of decimals use the
same column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tideline.definition import ViewDefinition
from tideline.expressions import may_be_used, names_used
from tideline.measures.base import Entries, Part
from tideline.source import SourceDefinition
from tideline.types import BIGINT, Column, ColumnType

LOG_VIEW = 0
LOG_EVENT, LOG_DUPLICATE, LOG_DEAD, LOG_REJECT = 0, 1, 2, 3
ENTRY_TYPES = {"entry": "int", "entry_text": "string", "entry_number": "bigint"}
_LOG_PARTS = (("records", "count", ColumnType("boolean")), ("checksum", "xor", BIGINT), ("latest", "max", BIGINT))


def is_text_key(kind: ColumnType) -> bool:
    """Whether a key of this type is grouped by its text; the others are grouped by a bigint."""
    return kind.name in ("string", "binary") or kind.is_decimal or kind.is_floating


@dataclass(frozen=True)
class Slot:
    """One aggregate column of the fold, as `Part` names its function."""

    function: str
    type: ColumnType
    argument: int = 0


@dataclass(frozen=True)
class PlannedView:
    """Where one view's key, states and entries stand in the folded rows."""

    index: int
    view: ViewDefinition
    key_slots: tuple[str, ...]
    part_slots: Mapping[str, tuple[str, ...]]
    entries: Mapping[str, int]

    def parts(self) -> dict[str, tuple[Part, str]]:
        """Every part of every measure by a unique field name, with its slot."""
        pairs = (
            (part, slot)
            for name, measure in self.view.measures.items()
            for part, slot in zip(measure.parts(), self.part_slots[name], strict=True)
        )
        return {f"p{number}": pair for number, pair in enumerate(pairs)}

    def entry_fields(self) -> dict[str, tuple[int, Entries]]:
        """Every map-like measure by a unique field name, with its entry number."""
        found = {}
        for name, number in self.entries.items():
            entries = self.view.measures[name].entries()
            if entries is not None:
                found[f"e{number}"] = (number, entries)
        return found


class FoldPlan:
    """The plan of one source's views. `views` keeps the order given."""

    def __init__(self, source: SourceDefinition, views: Sequence[ViewDefinition]) -> None:
        self.source = source
        self.views = tuple(views)
        self.slots: list[Slot] = []
        self.texts = max([1, *(sum(is_text_key(c.type) for c in v.key) for v in views)])
        self.numbers = max([1, *(sum(not is_text_key(c.type) for c in v.key) for v in views)])
        self._by_signature: dict[Slot, list[int]] = {}
        self.log_slots = self._allocate([Slot(function, kind) for _, function, kind in _LOG_PARTS])
        self.planned = tuple(self._plan(number, view) for number, view in enumerate(views, 1))
        self.has_entries = any(planned.entries for planned in self.planned)

    def _allocate(self, wanted: Sequence[Slot]) -> tuple[str, ...]:
        used: Counter[Slot] = Counter()
        names = []
        for slot in wanted:
            columns = self._by_signature.setdefault(slot, [])
            if used[slot] == len(columns):
                columns.append(len(self.slots))
                self.slots.append(slot)
            names.append(f"s{columns[used[slot]]}")
            used[slot] += 1
        return tuple(names)

    def _plan(self, index: int, view: ViewDefinition) -> PlannedView:
        texts, numbers = iter(range(len(view.key))), iter(range(len(view.key)))
        keys = tuple(f"kt{next(texts)}" if is_text_key(c.type) else f"kn{next(numbers)}" for c in view.key)
        parts = [(name, part) for name, measure in view.measures.items() for part in measure.parts()]
        slots = self._allocate([Slot(part.function, part.type, part.argument) for _, part in parts])
        by_measure: dict[str, tuple[str, ...]] = dict.fromkeys(view.measures, ())
        for (name, _), slot in zip(parts, slots, strict=True):
            by_measure[name] += (slot,)
        mapped = [name for name, measure in view.measures.items() if measure.entries() is not None]
        return PlannedView(index, view, keys, by_measure, {name: number for number, name in enumerate(mapped, 1)})

    def _expressions(self) -> list[str]:
        """Every expression that the views evaluate, and the event's time."""
        return [self.source.event_time, *(sql for p in self.planned for sql in (*p.view.row_sqls(), *p.view.key_sql))]

    @property
    def record_columns(self) -> list[str]:
        """The record columns that the fold reads beside the event's own."""
        used = names_used(self._expressions(), ["_timestamp", "_key", "_headers"])
        return ["_partition", "_offset", "_hash", *sorted(used)]

    @property
    def event_columns(self) -> list[str]:
        """The event's columns that the fold reads or may read, and its id; the others need not leave the decoder."""
        used = {column.name for column in self.used_columns}
        used |= {self.source.event_id or "", self.source.operation or ""}
        return [column.name for column in self.source.schema if column.name in used]

    @property
    def used_columns(self) -> list[Column]:
        """Those of them that the fold reads."""
        used = may_be_used(self._expressions(), [column.name for column in self.source.schema])
        return [column for column in self.source.schema if column.name in used]

    @property
    def group_columns(self) -> list[str]:
        """The columns that identify a folded row; of the log's own rows `kn0` is the partition, `bucket` what became of
        the records, and `kt0` the reason or the views that reject them."""
        keys = [f"kt{i}" for i in range(self.texts)] + [f"kn{i}" for i in range(self.numbers)]
        return ["view", *keys, "bucket", *(ENTRY_TYPES if self.has_entries else ())]
