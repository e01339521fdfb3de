"""From merged states to the columns that people read: keys, windows, measures and answers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serving_layer.find import not_shown
from serving_layer.fold import Groups, Side, least
from serving_layer.order import arrange
from serving_layer.paging import Place
from serving_layer.plan import Plan
from serving_layer.proof import json_text
from tideline.measures import Measure
from tideline.quarantine import FAULTS
from tideline.types import from_wire_many

Row = dict[str, Any]
Columns = dict[str, Sequence[Any]]


class Presenter:
    """Presents the groups of one plan.

    `names` are the columns of the answer. Of its JSON, `head` is what stands before the rows, `template` the text of a
    row whose values are texts.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.keys = {plan.view.key[index].name: place for place, index in enumerate(plan.group)}
        self.names = [*self.keys, *([plan.time_name] if plan.time_name else []), *plan.shown]
        self.identity = self.names[: len(self.keys) + (plan.time_name is not None)]
        """The columns that tell a row from the others: its key columns, and its bucket or window."""
        named = [*self.names, *(["parts"] if plan.parts else [])]
        self.head = f'{{"view":{json_text(plan.view.name)},"columns":{json_text(self.names)},"rows":['
        self.template = f"{{{','.join(json_text(name).replace('%', '%%') + ':%s' for name in named)}}}"
        measures = list(plan.view.measures.items())
        self._stored: dict[str, Callable[[Groups], Sequence[Any]]] = {
            **{measures[slot][0]: _of_measure(plan, slot, measures[slot][1]) for slot in plan.slots},
            **{name: _of_key(plan, place) for name, place in self.keys.items()},
        }

    def stored(self, name: str, groups: Groups) -> Sequence[Any]:
        """A key column, the windows, or what a measure answers."""
        try:
            return self._stored[name](groups) if name in self._stored else groups.windows
        except FAULTS as error:
            raise not_shown(self.plan.view.name, name, error) from error

    def columns(
        self, groups: Groups, start: Place | None = None, most: int | None = None
    ) -> tuple[Columns, Place | None]:
        """The answer by the column, its rows in order, within the limits, no more than `most`, and behind `start`; and
        where it ends, if more rows follow.

        Windows are microseconds. With the plan's parts there is one more, `parts`. Raises TypeError where `start` is
        the place of no row of this query.
        """
        plan, presented, end = self.plan, _Presented(self, groups), None
        limit = least(plan.limit, most)
        if plan.order or plan.limit_by or start or (limit is not None and limit < len(groups)):
            at = None if start is None else (self._before(groups, start), start.ranks)
            places = arrange(len(groups), plan.order, plan.limit_by, presented.ordered_by, at)
            shown = places if limit is None else places[:limit]
            if shown and len(shown) < len(places):
                end = presented.place(shown[-1])
            presented = presented.take(shown)
        found = {name: presented.column(name) for name in self.names}
        if plan.parts:
            batch, speed = (
                self._side(presented.groups, side) for side in (presented.groups.batch, presented.groups.speed)
            )
            found["parts"] = [{"batch": one, "speed": other} for one, other in zip(batch, speed, strict=True)]
        return found, end

    def _before(self, groups: Groups, start: Place) -> int:
        """How many groups come before a place, or are there, in the order of their keys."""
        name = start.name(self.plan)

        def name_of(place: int) -> bytes:
            return Place(groups.keys[place], groups.windows[place], ()).name(self.plan)

        return bisect_right(range(len(groups)), name, key=name_of)

    def _side(self, groups: Groups, side: Side) -> list[Row | None]:
        """What one side answers for each group; None where it has nothing."""
        states = [found for found in side if found is not None]
        presented = _Presented(self, Groups((), (), states))
        shown = zip(*(presented.column(name) for name in self.plan.shown), strict=True)
        rows = (dict(zip(self.plan.shown, values, strict=True)) for values in shown)
        return [None if found is None else next(rows, {}) for found in side]


class _Presented:
    """Groups and the columns of them that were computed: an answer that the order needed is not computed again."""

    def __init__(self, presenter: Presenter, groups: Groups, known: Mapping[str, Sequence[Any]] | None = None) -> None:
        self.groups = groups
        self._presenter = presenter
        self._known = dict(known or {})

    def take(self, places: Sequence[int]) -> _Presented:
        """The groups at these places."""
        known = {name: [values[place] for place in places] for name, values in self._known.items()}
        return _Presented(self._presenter, self.groups.take(places), known)

    def place(self, place: int) -> Place:
        """Where the group at a place stands in the order."""
        ranks = [self.ordered_by(order.name, order.field)[place] for order in self._presenter.plan.order]
        return Place(self.groups.keys[place], self.groups.windows[place], tuple(ranks))

    def ordered_by(self, name: str, field: str | None) -> Sequence[Any]:
        """What groups are ordered by: wire values of keys and windows, else answers."""
        if name in self._presenter.keys:
            place = self._presenter.keys[name]
            return [key[place] for key in self.groups.keys]
        values = self.column(name)
        if field is None:
            return values
        return [value.get(field) if isinstance(value, Mapping) else value for value in values]

    def column(self, name: str) -> Sequence[Any]:
        """A column of all groups."""
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self._column(name)
        return found

    def _column(self, name: str) -> Sequence[Any]:
        answer = self._presenter.plan.answers.get(name)
        if answer is None:
            return self._presenter.stored(name, self.groups)
        inner = {measure: self.column(measure) for measure in answer.names}
        places = range(len(self.groups.merged))
        return [answer({measure: values[place] for measure, values in inner.items()}) for place in places]


def _of_key(plan: Plan, place: int) -> Callable[[Groups], Sequence[Any]]:
    kind = plan.view.key[plan.group[place]].type
    return lambda groups: from_wire_many(kind, [key[place] for key in groups.keys])


def _of_measure(plan: Plan, slot: int, measure: Measure) -> Callable[[Groups], Sequence[Any]]:
    place = slot if plan.keeps_rows else plan.slots.index(slot)
    return lambda groups: measure.present_many([states[place] for states in groups.merged])
