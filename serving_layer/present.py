"""From merged states to rows that people read: keys, window start, measures and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from serving_layer.find import not_shown
from serving_layer.fold import Group, States
from serving_layer.order import TIME_NAMES, arrange
from serving_layer.plan import Plan
from tideline.quarantine import FAULTS
from tideline.types import ColumnType, bucket_start, from_wire

Row = dict[str, Any]


class Presenter:
    """Presents the groups of one plan; an answer that the order needed already is not computed again."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        names = list(plan.view.measures)
        measures = list(plan.view.measures.values())
        self._present: dict[str, Callable[[States], Any]] = {
            names[slot]: _presenter(measures[slot].present, place) for place, slot in enumerate(plan.slots)
        }
        self._keys = {plan.view.key[index].name: place for place, index in enumerate(plan.group)}
        self._types = [plan.view.key[index].type for index in plan.group]

    def rows(self, groups: list[Group]) -> list[Row]:
        """The rows of the answer: in order, within the limits."""
        plan = self._plan
        return [self._row(group) for group in arrange(groups, plan.order, plan.limit, plan.limit_by, self._lookup)]

    def _lookup(self, group: Group, name: str, field: str | None) -> Any:
        if name in self._keys:
            return group.key[self._keys[name]]
        if name in TIME_NAMES and name == self._plan.time_name:
            return group.window
        value = self._value(group.merged, name, group.seen)
        return value.get(field) if field is not None and isinstance(value, Mapping) else value

    def _value(self, states: States, name: str, seen: dict[str, Any]) -> Any:
        if name not in seen:
            answer = self._plan.answers.get(name)
            if answer is None:
                try:
                    seen[name] = self._present[name](states)
                except FAULTS as error:
                    raise not_shown(self._plan.view.name, name, error) from error
            else:
                seen[name] = answer({inner: self._value(states, inner, seen) for inner in answer.names})
        return seen[name]

    def _shown(self, states: States, seen: dict[str, Any]) -> Row:
        return {name: self._value(states, name, seen) for name in self._plan.shown}

    def _key(self, name: str, kind: ColumnType, value: Any) -> Any:
        try:
            return from_wire(kind, value)
        except FAULTS as error:
            raise not_shown(self._plan.view.name, name, error) from error

    def _row(self, group: Group) -> Row:
        plan = self._plan
        row: Row = {name: self._key(name, self._types[place], group.key[place]) for name, place in self._keys.items()}
        if plan.time_name:
            row[plan.time_name] = bucket_start(group.window)
        row.update(self._shown(group.merged, group.seen))
        if plan.parts:
            sides = {"batch": group.batch, "speed": group.speed}
            row["parts"] = {side: None if states is None else self._shown(states, {}) for side, states in sides.items()}
        return row


def _presenter(present: Callable[[Any], Any], place: int) -> Callable[[States], Any]:
    return lambda states: present(states[place])
