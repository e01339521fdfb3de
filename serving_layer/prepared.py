"""What is done once for all queries of one shape: at one ledger they differ in the values of their keys alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable

from serving_layer.fold import collect
from serving_layer.paging import CursorError, read_cursor
from serving_layer.plan import Plan, key_values
from serving_layer.present import Presenter
from serving_layer.proof import Proof
from serving_layer.query import Query, brief, is_several
from serving_layer.result import Result
from tideline.ledger import Ledger
from tideline.merge import MergedView
from tideline.stores.base import Snapshot

_MOST = 500  # shapes that are kept; when there are more, all begin anew
_LONGEST = 4_000  # letters of a shape that is kept
_ROWS_OF_LARGE = 500  # small rows that one takes as long as whose states may grow
_SMALL = frozenset({"count", "sum", "min", "max", "first", "last", "moments"})
"""Functions of parts whose results do not grow."""


class Prepared:
    """A plan at a ledger. Raises MissingSegmentError."""

    def __init__(self, ledger: Ledger, plan: Plan) -> None:
        self._plan = plan
        self._merged = MergedView(ledger, plan.view, plan.version)
        self._presenter = Presenter(plan)
        self.proof = Proof(ledger, plan)

    @property
    def rows_of_key(self) -> int | None:
        """The most stored rows of one key, where each is read in microseconds; None where that is not known.

        One that is looked up counts as many where its states may be large.
        """
        plan = self._plan
        measures = plan.view.measures.values()
        if all(m.entries() is None and all(part.function in _SMALL for part in m.parts()) for m in measures):
            return plan.rows_of_key if plan.is_lookup or plan.keeps_rows else None
        return _ROWS_OF_LARGE if plan.is_lookup else None

    def answer(self, snapshot: Snapshot, query: Query, freshness: float | None, most: int | None) -> Result:
        """The answer to a query of this shape, on a snapshot of that ledger; `most` rows of it. Raises UsageError."""
        plan, start = self._plan, read_cursor(self._plan, query.cursor)
        groups = collect(snapshot, plan, self._merged, key_values(plan, query.key), start, most)
        try:
            columns, end = self._presenter.columns(groups, start, most)
        except TypeError:
            if start is None:
                raise
            raise CursorError("BAD_CURSOR", option="cursor", value=brief(query.cursor)) from None
        return Result(self._presenter, columns, self.proof, freshness, end)


class PreparedQueries:
    """What is prepared at a ledger; it is made anew when the ledger has changed.

    How many rows shapes have is remembered from the ledgers before.
    """

    def __init__(self, ledger: Ledger, before: PreparedQueries | None = None) -> None:
        self.ledger = ledger
        self._found: dict[Hashable, Prepared] = {}
        self._rows: dict[Hashable, int] = {} if before is None else before._rows

    def rows(self, query: Query) -> int | None:
        """The most stored rows that the answer is made of, if the last query of this shape could say so."""
        of_key = self._rows.get(query.shape)
        several = (max(len(value), 1) for value in query.key.values() if is_several(value))
        return None if of_key is None else of_key * math.prod(several)

    def get(self, query: Query, plan: Callable[[Ledger, Query], Plan]) -> Prepared:
        """What is prepared for queries of this shape. Raises what `plan` raises, and MissingSegmentError."""
        shape = query.shape
        prepared = self._found.get(shape)
        if prepared is None:
            prepared = Prepared(self.ledger, plan(self.ledger, query))
            if shape is not None and len(repr(shape)) <= _LONGEST:
                if len(self._found) >= _MOST:
                    self._found.clear()
                self._found[shape] = prepared
                self._note(shape, prepared.rows_of_key)
        return prepared

    def _note(self, shape: Hashable, rows: int | None) -> None:
        if rows is None:
            self._rows.pop(shape, None)
            return
        if len(self._rows) >= _MOST:
            self._rows.clear()
        self._rows[shape] = rows
