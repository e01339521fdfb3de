"""What the server says of itself: `SqlInfo` by its numbers in Apache Arrow's FlightSql.proto.

https://github.com/apache/arrow/blob/main/format/FlightSql.proto. Drivers for JDBC and ODBC make their metadata of it,
and some fail where a number is missing. The language is DuckDB's, of which only SELECT is answered.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow as pa

from tideline import __version__

_TEXT, _FLAG, _NUMBER, _BITS, _LIST, _MAP = range(6)
"""The kinds of values, by their place in the union that carries them."""
_KINDS = {
    "string_value": pa.string(),
    "bool_value": pa.bool_(),
    "bigint_value": pa.int64(),
    "int32_bitmask": pa.int32(),
    "string_list": pa.list_(pa.string()),
    "int32_to_int32_list_map": pa.map_(pa.int32(), pa.list_(pa.int32())),
}
_TEXTS = {
    0: "Tideline",
    1: __version__,
    2: pa.__version__,
    504: '"',  # around identifiers
    513: "",  # nothing escapes in patterns of metadata
    514: "",
    529: "schema",
    530: "procedure",
    531: "catalog",
}
_TRUE = (3, 4, 506, 515, 516, 518, 520, 521, 523, 532, 539)
"""It reads only, takes SQL, every table may be selected; aliases, null plus null is null, names of tables, ordering by
expressions and by what is not selected, LIKE with ESCAPE, a catalog before its schema, correlated subqueries."""
_FALSE = (5, 500, 501, 502, 519, 524, 527, 536, 537, 556, 563, 565, 566, 572, 573, 574, 575, 576)
"""No plans of Substrait, nothing is made, no constraints, nothing is locked or stored, no transactions, no batches, no
named parameters."""
_NUMBERS = {
    503: 1,  # identifiers are compared without regard to case
    505: 1,
    507: 3,  # nulls come last
    562: 0,  # no transactions
    **{number: 0 for number in range(541, 562) if number != 556},  # no limits that are known
}
_BITMASKS = {
    8: 0,  # no transactions
    522: 0b11,  # GROUP BY of any columns
    525: 0b11,
    526: 0b1,
    528: 0b110,  # outer joins
    533: 0,
    534: 0,
    535: 0,
    538: 0b1111,  # subqueries wherever there may be some
    540: 0b11,  # UNION, UNION ALL
    564: 0b1,
    567: 0b10,  # results are read forward
    568: 0,
    569: 0b10,
    570: 0,
    571: 0,
}
FACTS: dict[int, tuple[int, Any]] = {
    **{number: (_TEXT, text) for number, text in _TEXTS.items()},
    **dict.fromkeys(_TRUE, (_FLAG, True)),
    **dict.fromkeys(_FALSE, (_FLAG, False)),
    **{number: (_NUMBER, value) for number, value in _NUMBERS.items()},
    **{number: (_BITS, value) for number, value in _BITMASKS.items()},
    **{number: (_LIST, []) for number in range(508, 513)},
    517: (_MAP, []),
}
"""(kind, value) by number."""


def info_table(wanted: Collection[int]) -> pa.Table:
    """The answer to `CommandGetSqlInfo`: what is known of the wanted numbers, of all where none is named."""
    known = {number: FACTS[number] for number in sorted(FACTS) if not wanted or number in wanted}
    values: list[list[Any]] = [[] for _ in _KINDS]
    kinds, places = [], []
    for kind, value in known.values():
        kinds.append(kind)
        places.append(len(values[kind]))
        values[kind].append(value)
    children = [pa.array(found, kind) for found, kind in zip(values, _KINDS.values(), strict=True)]
    union = pa.UnionArray.from_dense(pa.array(kinds, pa.int8()), pa.array(places, pa.int32()), children, list(_KINDS))
    return pa.table({"info_name": pa.array(list(known), pa.uint32()), "value": union})
