"""What is done once for all queries of one shape: at one ledger they differ in the values of their keys alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from serving_layer.fold import collect
from serving_layer.plan import Plan, key_values
from serving_layer.present import Presenter
from serving_layer.proof import Proof
from serving_layer.query import Query
from serving_layer.result import Result
from tideline.ledger import Ledger
from tideline.merge import MergedView
from tideline.stores.base import Snapshot

_MOST = 500  # shapes that are kept


class Prepared:
    """A plan at a ledger. Raises MissingSegmentError."""

    def __init__(self, ledger: Ledger, plan: Plan) -> None:
        self._plan = plan
        self._merged = MergedView(ledger, plan.view, plan.version)
        self._presenter = Presenter(plan)
        self._proof = Proof(ledger, plan)

    @property
    def is_one_row(self) -> bool:
        """Whether one stored row, if any, is the answer."""
        return self._plan.is_lookup and not self._plan.several

    def answer(self, snapshot: Snapshot, key: Mapping[str, Any], freshness: float | None) -> Result:
        """The answer for these key values, on a snapshot of that ledger. Raises UsageError BAD_VALUE."""
        groups = collect(snapshot, self._plan, self._merged, key_values(self._plan, key))
        return Result(self._presenter, self._presenter.columns(groups), self._proof, freshness)


class PreparedQueries:
    """What is prepared at a ledger; it is made anew when the ledger has changed.

    `lookups` are the shapes whose answer is one stored row: of this ledger, or of one before until they are asked here.
    """

    def __init__(self, ledger: Ledger, before: PreparedQueries | None = None) -> None:
        self.ledger = ledger
        self.lookups: set[Hashable] = set() if before is None else before.lookups
        self._found: dict[Hashable, Prepared] = {}

    def get(self, query: Query, plan: Callable[[Ledger, Query], Plan]) -> Prepared:
        """What is prepared for queries of this shape. Raises what `plan` raises, and MissingSegmentError."""
        shape = query.shape
        prepared = self._found.get(shape)
        if prepared is None:
            prepared = Prepared(self.ledger, plan(self.ledger, query))
            if shape is not None and len(self._found) < _MOST:
                self._found[shape] = prepared
                self._note_lookup(shape, prepared.is_one_row)
        return prepared

    def _note_lookup(self, shape: Hashable, is_one_row: bool) -> None:
        if not is_one_row:
            self.lookups.discard(shape)
        elif len(self.lookups) < _MOST:
            self.lookups.add(shape)
