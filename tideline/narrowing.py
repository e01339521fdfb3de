"""Which changes of a source's schema leave less of the events that were read before."""

from __future__ import annotations

from dataclasses import dataclass

from tideline.source import SourceDefinition
from tideline.types import INTEGER_RANGES, ColumnType

_EXACT_BITS = {"float": 24, "double": 53}


@dataclass(frozen=True)
class Narrower:
    """A column that a new declaration drops (`now` is None), or whose type no longer takes every value.

    `like` are the columns that the declaration adds with the same type: one of them may be its new name.
    """

    column: str
    before: ColumnType
    now: ColumnType | None
    like: tuple[str, ...]

    @property
    def condition(self) -> str:
        return "COLUMN_DROPPED" if self.now is None else "COLUMN_NARROWER"

    def __str__(self) -> str:
        if self.now is not None:
            return f"{self.column} {self.before} becomes {self.now}, which does not take all of its values"
        renamed = f", or renamed {' or '.join(self.like)}" if self.like else ""
        return f"{self.column} {self.before} is dropped{renamed}"


def narrower(before: SourceDefinition, after: SourceDefinition) -> list[Narrower]:
    """What `after` takes away from `before`, column by column; empty where columns were added or widened alone."""
    known = {column.name: column.type for column in before.schema}
    now = {column.name: column.type for column in after.schema}
    fresh = {name: kind for name, kind in now.items() if name not in known}
    return [
        Narrower(name, kind, now.get(name), tuple(other for other, type in fresh.items() if type == kind))
        for name, kind in known.items()
        if name not in now or not takes(now[name], kind)
    ]


def takes(wide: ColumnType, kind: ColumnType) -> bool:
    """Whether a column of type `wide` decodes every record that one of type `kind` does, to an equal value.

    A float counts as taken by a double: both hold the number nearest to the text, the double a nearer one.
    """
    if wide == kind or (kind.name, wide.name) == ("float", "double"):
        return True
    if kind.is_integer:
        size = INTEGER_RANGES[kind.name]
        if wide.is_integer:
            return INTEGER_RANGES[wide.name] >= size
        if wide.is_decimal:
            return int(10 ** (wide.precision - wide.scale)) > size
        return wide.is_floating and 2 ** _EXACT_BITS[wide.name] >= size
    if kind.is_decimal and wide.is_decimal:
        return wide.scale >= kind.scale and wide.precision - wide.scale >= kind.precision - kind.scale
    return False
