"""Computing a view whose rows may be retracted: of every value, as many as were inserted less those retracted.

`grouped` holds all rows with their `_sign`. Counts and exact sums add up the signs. For every other measure a table
`net` holds each value as often as it is left, and the plain recipe is computed over that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import duckdb

from tideline.definition import ViewDefinition
from tideline.measures import First, Last, Measure, Quantiles, TopK
from tideline.oracle.aggregates import Aggregate, aggregate_of, category_counts, net_aggregate_of

Rows = dict[Any, list[Any]]


def signed_rows(
    db: duckdb.DuckDBPyConnection, view: ViewDefinition, by: str, key: Callable[[ViewDefinition, Sequence[Any]], Any]
) -> Rows:
    """For each group that has rows left, what each measure's check needs; `by` are the group's columns."""
    groups = db.execute(f"SELECT {by} FROM grouped GROUP BY {by} HAVING sum(_sign) > 0").fetchall()
    rows: Rows = {key(view, group): [None] * len(view.measures) for group in groups}

    def put(index: int, sql: str) -> None:
        for *group, value in db.execute(sql).fetchall():
            if (found := rows.get(key(view, group))) is not None:
                found[index] = value

    for index, measure in enumerate(view.measures.values()):
        linear = net_aggregate_of(index, measure)
        if linear is not None:
            put(index, _select(by, linear, "grouped"))
            continue
        recipe = aggregate_of(index, measure)
        db.execute(f"CREATE OR REPLACE TEMP TABLE net AS {_net(index, measure, by)}")
        if recipe.weight is None:
            put(index, _select(by, recipe, "net"))
        else:
            for found in rows.values():
                found[index] = {}
            for *group, category, count in db.execute(category_counts(index, by, recipe.weight, "net")).fetchall():
                if (row := rows.get(key(view, group))) is not None:
                    row[index][category] = count
        if isinstance(measure, Quantiles):
            put(index, f"SELECT DISTINCT {by}, NULL FROM (SELECT {by} {_left(index, by, '')} < 0)")
    return rows


def _select(by: str, recipe: Aggregate, table: str) -> str:
    return (
        f"SELECT {by}, {recipe.outer.format(a='a')} FROM (SELECT {by}, {recipe.inner} AS a FROM {table} GROUP BY {by})"
    )


def _left(index: int, by: str, others: str) -> str:
    """The end of a query over the values of a group, up to a comparison of how many are left of each."""
    return f"FROM grouped WHERE v{index} IS NOT NULL GROUP BY {by}, v{index}{others} HAVING sum(_sign)"


def _net(index: int, measure: Measure, by: str) -> str:
    """SQL of the values that are left, each as often as it is, and of every group once without a value."""
    edge = isinstance(measure, (First, Last))
    weighed = isinstance(measure, TopK) and measure.weight
    others = (", _at" if edge else "") + (f", coalesce(g{index}, 0)" if weighed else "")
    at, weight = "_at" if edge else "0", f"coalesce(g{index}, 0)" if weighed else "0"
    place = "0 AS _partition, 0 AS _offset"
    values = f"SELECT {by}, v{index}, {at} AS _at, {weight} AS g{index}, sum(_sign) AS n {_left(index, by, others)} > 0"
    return (
        f"SELECT {by}, v{index}, _at, g{index}, {place} "
        f"FROM (SELECT *, unnest(range(CAST(n AS BIGINT))) FROM ({values})) "
        f"UNION ALL SELECT DISTINCT {by}, NULL, 0, 0, {place} FROM grouped"
    )
