"""A merged view as Arrow tables: what its version holds, which is kept, and what the speed side has touched since."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from serving_layer.fold import Groups, as_stored
from serving_layer.plan import Plan
from serving_layer.present import Presenter
from serving_layer.proof import Proof
from serving_layer.result import Result
from serving_layer.sql.functions import with_states
from tideline.measures import Measure
from tideline.merge import MergedView
from tideline.stores.base import Snapshot
from tideline.walk import Block

MOST_BYTES = 1 << 29  # of tables that are kept


@dataclass(frozen=True)
class ViewTables:
    """The rows of `settled` whose keys do not stand in `touched`, and the rows of `fresh`, are the answer.

    `keys` are the columns that tell a row from the others; `proof` is the answer's; `measures` are those whose states
    are there, by view and name.
    """

    keys: list[str]
    settled: pa.Table
    touched: pa.Table
    fresh: pa.Table
    proof: dict[str, Any]
    measures: Mapping[str, Measure] = field(default_factory=dict)


class TableCache:
    """What versions hold by the column, until there is too much of it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, pa.Table] = OrderedDict()

    def tables(self, snapshot: Snapshot, plan: Plan, freshness: float | None, states: bool = False) -> ViewTables:
        """A view's tables at a snapshot, with `states` also those; the plan is that of a query for the whole view."""
        ledger, fingerprint = snapshot.ledger, plan.view.fingerprint
        merged, presenter, proof = MergedView(ledger, plan.view), Presenter(plan), Proof(ledger, plan)

        def answers(blocks: Iterator[Block]) -> pa.Table:
            groups = as_stored(blocks, plan)
            columns, _ = presenter.columns(groups)
            found = Result(presenter, columns, proof, freshness).to_arrow()
            return with_states(found, groups, plan) if states else found

        version = ledger.version
        shown = tuple(plan.view.answers.items())
        name = fingerprint, shown, version.views.get(fingerprint), version.floors.get(fingerprint), states
        settled = self._kept.pop(name, None)
        if settled is None:
            settled = answers(merged.settled(snapshot))
        self._keep(name, settled)
        blocks = list(merged.fresh(snapshot))
        touched = Groups([key for b in blocks for key in b.keys], [at for b in blocks for at in b.buckets], ())
        keys = {key: presenter.stored(key, touched) for key in presenter.identity}
        named = Result(presenter, keys, proof, freshness).to_arrow()
        named = named if keys else pa.table({"any": [True] * len(touched.keys)})
        measures = {f"{plan.view.name}.{name}": measure for name, measure in plan.view.measures.items()}
        return ViewTables(
            presenter.identity,
            settled,
            named,
            answers(iter(blocks)),
            proof.value(freshness),
            measures if states else {},
        )

    def part(self, result: Result) -> ViewTables:
        """The tables of an answer to a query."""
        found = result.to_arrow()
        nothing = found.slice(0, 0)
        return ViewTables([], found, pa.table({"any": pa.array([], pa.bool_())}), nothing, result.proof)

    def _keep(self, name: Hashable, table: pa.Table) -> None:
        self._kept[name] = table
        while sum(kept.nbytes for kept in self._kept.values()) > MOST_BYTES and len(self._kept) > 1:
            self._kept.popitem(last=False)
