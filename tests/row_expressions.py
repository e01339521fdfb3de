"""Row expressions of all kinds, and rows that are where types end, for those that say what Spark says."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa

from tideline.oracle.events import arrow_type
from tideline.source import Source

SCHEMA = (
    "b boolean, y tinyint, h smallint, i int, j int, l bigint, m bigint, x double, z double, f float, "
    "d decimal(10,2), "
    "e decimal(12,5), s string, u string, at timestamp, ts timestamp, day date"
)
SOURCE = Source("s", schema=SCHEMA, event_time="at").resolve()
INF, NAN = float("inf"), float("nan")
DAY = 86_400_000_000
VALUES: dict[str, list[Any]] = {
    "b": [True, False, None],
    "y": [0, 1, -1, 127, -128, None, 7],
    "h": [0, 3, -32768, 32767, None],
    "i": [0, 1, -1, 2, 2147483647, -2147483648, None, 46341, 1000003, -7, 3],
    "j": [0, 3, -1, 1, -2147483648, 2147483647, 7, None, -3],
    "l": [0, 1, -1, 9223372036854775807, -9223372036854775808, None, 10, 3037000500],
    "m": [0, -1, 2, 9007199254740993, None, 3, -9223372036854775808],
    "x": [
        0.0,
        -0.0,
        1.5,
        -2.5,
        1e308,
        -1e308,
        INF,
        -INF,
        NAN,
        None,
        5e-324,
        2.9999999,
        0.1,
        2147483647.9,
        -2147483648.9,
    ],
    "z": [0.0, 2.0, -1.0, NAN, None, INF, 1e-300, 3.0],
    "f": [0.1, None, -0.0, 3.4e38],
    "d": [
        Decimal("0.00"),
        Decimal("1.05"),
        Decimal("-1.05"),
        Decimal("99999999.99"),
        None,
        Decimal("2.50"),
        Decimal("-0.01"),
    ],
    "e": [
        Decimal("0.00001"),
        Decimal("1.05000"),
        Decimal("-9999999.99999"),
        None,
        Decimal("2.50000"),
        Decimal("0.00000"),
    ],
    "s": [
        "",
        "a",
        "abc",
        "A b c ",
        " x ",
        None,
        "C123",
        "50%",
        "a_b",
        "été",
        "中文😀",
        "a\nb",
        "\tq\t",
        "ab",
        "abcd",
    ],
    "u": ["", "b", "c", None, "abc", "É"],
    "at": [0],
    "ts": [
        0,
        -1,
        1_323_434_999_999_999,
        -62_135_596_800_000_000,
        253_402_300_799_999_999,
        None,
        DAY * 59,
        1_330_473_600_000_000,
    ],
    "day": [0, -1, 15000, None, 2932896, -719162],
}

SAME = """
i + j | i - j | i * j | i + 1 | 2 * i | i + l | l + m | l - m | l * m | y + y | h * h | y * i
y - h | -i | -l | -y | -x | -d | x + z | x - z | x * z | i * x | x + d | x / z | i / j | l / m
i / 2 | x / 0 | i / 0 | i div j | l div m | l div 0 | i % j | l % m | mod(i, 3) | y % y | abs(i)
abs(l) | abs(x) | abs(d) | abs(y) | d + e | d - e | d * e | d * i | i * d | d + 1 | 2 * d | d * 0.5
d * 10 | y * d | h + d | d + 12345 | e * 1.17 | x * 1.5D | 1.5 + d | 0.05 * d | 1e3 * x | d * x
3000000000 + i | l + 1L | 1.0 | 7 | 'q' | i = j | i <> j | i < l | i <= 0 | x > z | x >= 0 | x = z
x <=> z | i <=> j | s <=> u | s = u | s < u | s >= 'a' | d > e | d = 1.05 | d > 1 | d < i | d >= x
b = true | ts > ts | day = day | ts = ts | i != 3 | e = d | f | f is null | b and i > 0 | b or i > 0
not b | b and 1 / i > 0 | i <> 0 and 10 / i > 1 | i = 0 or 10 / i > 1 | i = 0 or i * i > 5
b and null | not (b and x > 0) | (i > 0) = b | i is null | i is not null | isnull(s) | isnotnull(s)
s is null or s = '' | if(i > 0, i, -1) | if(b, i, l) | if(i <> 0, 100 / i, null) | if(b, d, i)
if(b, x, d) | if(b, 'y', 'n') | if(b, null, i)
case when i > 0 then 'p' when i < 0 then 'n' else 'z' end
case i when 0 then 'a' when 1 then 'b' end | case when b then i end
case when x > 0 then x when d > 0 then d else 0 end | case when i <> 0 then i / i else 0.0D end
case when j <> 0 then i % j end | coalesce(i, 0) | coalesce(i, l, 0) | coalesce(s, u, '')
ifnull(d, 0) | nvl(x, 0) | nvl(s, 'none') | nullif(i, 0) | nullif(s, '') | i in (0, 1, 2)
i not in (0, 1) | s in ('a', 'abc') | s in ('a', null) | d in (1.05, 2.5) | i between 0 and 5
i not between 0 and j | x between 0 and 2 | s between 'a' and 'b' | d between 0 and 2 | s like 'a%'
s not like 'C%' | s like '_b%' | s like '%b%' | s like 'a_b' | s like '%' | s like '' | s like '50%'
upper(if(b, 'y', 'N')) | lower(if(b, 'y', 'N')) | trim(s) | length(s) | substring(s, 1, 2)
substring(s, 2) | substr(s, 2, 1) | left(s, 2) | substring(s, 1, 0) | concat(s, u)
concat(s, '-', u) | s || u | s || 'x' | startswith(s, 'a') | endswith(s, 'c') | contains(s, 'b')
startswith(s, u) | greatest(i, j) | least(i, j, 0) | greatest(x, z) | least(x, z) | greatest(d, e)
least(i, l) | hour(ts) | minute(ts) | second(ts) | day(ts) | dayofmonth(ts) | month(ts) | year(ts)
quarter(ts) | dayofyear(ts) | dayofweek(ts) | weekday(ts) | day(day) | year(day) | month(day)
dayofweek(day) | weekday(day) | date_trunc('HOUR', ts) | date_trunc('day', ts)
date_trunc('week', ts) | date_trunc('MONTH', ts) | date_trunc('quarter', ts)
date_trunc('YEAR', ts) | date_trunc('minute', ts) | cast(i as bigint) | cast(i as tinyint)
cast(l as int) | cast(i as smallint) | cast(i as double) | cast(l as double) | cast(d as double)
cast(e as double) | cast(i as decimal(5,0)) | cast(i as decimal(20,2)) | cast(l as decimal(38,0))
cast(d as decimal(10,1)) | cast(d as decimal(5,2)) | cast(e as decimal(12,3))
cast(d as decimal(20,5)) | cast(d as int) | cast(d as tinyint) | cast(e as bigint) | cast(x as int)
cast(x as smallint) | cast(b as int) | cast(i as string) | cast(b as string) | cast(day as string)
cast(s as string) | cast(ts as date) | cast(day as timestamp) | to_date(ts)
to_date(ts) = cast(day as date) | int(d) | double(i) | bigint(i) | cast(null as int) | i | l | x | d
s | b | ts | day | y | (i) | `i` | I | _timestamp | cast(x as double) * 1.17D | -5 | - d | i + -1
x * x * x | d * d | i + i + i + i | l * 2 - l | x + 0 | abs(i - j)
if(i > 0 and s like 'a%', length(s), i * 2) | coalesce(nullif(i, 0), 1) * d
""".replace("\n", " | ")
EXPRESSIONS = sorted({text.strip() for text in SAME.split(" | ")} - {""})

LEFT_TO_SPARK = """
d / e ; d % e ; x % z ; s + 1 ; s = 1 ; i = '1' ; cast(s as int) ; cast(x as string)
cast(d as string) ; cast(x as bigint) ; cast(ts as string) ; cast(f as string) ; f + f ; round(x)
s rlike 'a' ; s like u ; substring(s, i) ; substring(s, 0, 2) ; substring(s, -2)
date_trunc('HOUR', day) ; ts > '2011-01-01' ; try_cast(s as int) ; reverse(s) ; upper(s) ; lower(u)
'\\\\d' ; length(_key) ; coalesce(i, 1 / j) ; i in (1, 1 / j) ; s like 'a\\\\%' ; -2147483648 ; i - -2147483648
date_trunc(s, ts)
s = 'it''s' ; cast(ln(x) as bigint) ; cast(x as decimal(10,2)) ; l * d * d * d ; ts + interval 1 day
""".replace("\n", ";")


def rows() -> list[dict[str, Any]]:
    """Every value of every column at least once, neighbours differing, and pairs that fail."""
    return [
        {
            name: values[(index * (1 + place % 3) + index // len(values)) % len(values)]
            for place, (name, values) in enumerate(VALUES.items())
        }
        for index in range(180)
    ]


def events() -> pa.Table:
    table: dict[str, Any] = {}
    for column in SOURCE.schema:
        raw = {"timestamp": pa.int64(), "date": pa.int32()}.get(column.type.name, arrow_type(column.type))
        table[column.name] = pa.array([row[column.name] for row in rows()], raw).cast(arrow_type(column.type))
    count = len(rows())
    table |= {
        "_partition": pa.array([0] * count, pa.int32()),
        "_offset": pa.array(range(count), pa.int64()),
        "_timestamp": pa.array(range(count), pa.int64()).cast(pa.timestamp("us")),
        "_key": pa.nulls(count, pa.binary()),
        "_headers": pa.nulls(count, pa.binary()),
        "_at": pa.array([0] * count, pa.int64()),
    }
    return pa.table(table)
