"""Bad catalogs, each with the condition that refuses it. `CATALOGS`: the last line is the wrong one."""

from __future__ import annotations

from typing import NamedTuple

HEADER = """from tideline import *
s = Source("events", schema="id string, n int, price decimal(10,2), raw binary, at timestamp", event_time="at")
count = {"m": Count()}
"""
LONG = "x" * 65_536


class BadCatalog(NamedTuple):
    """A catalog's line after HEADER and what `apply` says of it; `named` stands in the message."""

    kind: str
    line: str
    gets: str
    named: str = ""


def view(kind: str, options: str, gets: str, named: str = "") -> BadCatalog:
    """A view `v` over `s` with one thing wrong."""
    measures = "" if "measures=" in options else ", measures=count"
    return BadCatalog(kind, f"v = View('v', source=s{measures}, {options})", gets, named)


def measure(kind: str, spelled: str, gets: str, named: str = "") -> BadCatalog:
    """A view with this measure."""
    return view(kind, f"measures={{'m': {spelled}}}", gets, named)


def answer(kind: str, text: str, gets: str, named: str = "") -> BadCatalog:
    """A view with this answer."""
    return view(kind, f"answers={{'a': {text}}}", gets, named)


def source(kind: str, options: str, gets: str, named: str = "") -> BadCatalog:
    """A view over a source with one thing wrong."""
    return BadCatalog(kind, f"v = View('v', source=Source({options}), measures=count)", gets, named)


GOOD_SOURCE = "'t', schema='id string, at timestamp', event_time='at'"
PYTHON = [
    BadCatalog("a syntax error", "v = View(", "CATALOG_FAILED", "SyntaxError"),
    BadCatalog("an error while it runs", "v = 1 / 0", "CATALOG_FAILED", "ZeroDivisionError"),
    BadCatalog("a module that is not there", "import no_such_module", "CATALOG_FAILED", "no_such_module"),
    BadCatalog("recursion without end", "def f(): f()\nf()", "CATALOG_FAILED", "RecursionError"),
    BadCatalog("a catalog that leaves", "raise SystemExit(0)", "CATALOG_FAILED", "SystemExit"),
    BadCatalog("an unknown option", "v = View('v', source=s, measures=count, windw=1)", "CATALOG_FAILED", "windw"),
    BadCatalog("no view", "", "EMPTY_CATALOG"),
    BadCatalog("two views of one name", "v = [View('v', source=s, measures=count) for _ in 'ab']", "DUPLICATE_NAME"),
    BadCatalog(
        "two sources of one topic",
        "v = [View(n, source=Source(n, topic='x', schema='t timestamp', event_time='t'), measures=count)"
        " for n in 'ab']",
        "ONE_SOURCE_PER_TOPIC",
    ),
]
TYPES = [
    BadCatalog("a view without a source", "v = View('v', source='events', measures=count)", "BAD_OPTION", "source"),
    BadCatalog("a name that is no text", "v = View(5, source=s, measures=count)", "BAD_OPTION", "name"),
    view("measures in a list", "measures=[Count()]", "BAD_OPTION", "measures"),
    view("a key that is no name", "key=5", "BAD_OPTION", "key"),
    view("columns in a list", "columns=['n']", "BAD_OPTION", "columns"),
    view("a filter that is no text", "where=True", "BAD_OPTION", "where"),
    view("a bucket in text", "bucket='often'", "BAD_OPTION", "bucket"),
    view("a bucket that is a number", "bucket=0.5", "BAD_OPTION", "bucket"),
    measure("an expression that is no text", "Sum(5)", "BAD_OPTION", "expression"),
    measure("something else in a measure's place", "'count'", "NOT_A_MEASURE"),
    answer("an answer that is no text", "1", "BAD_OPTION", "answers"),
    source("a schema that is no text", "'t', schema=None, event_time='at'", "BAD_OPTION", "schema"),
    source("a horizon that is no number", f"{GOOD_SOURCE}, horizon='all'", "BAD_OPTION", "horizon"),
]
NAMES = [
    source("a source named with a slash", GOOD_SOURCE.replace("'t'", "'../t'"), "BAD_NAME"),
    source("a source named with dots", GOOD_SOURCE.replace("'t'", "'..'"), "BAD_NAME"),
    source("a source name of 64 kB", GOOD_SOURCE.replace("'t'", f"'{LONG}'"), "BAD_NAME"),
    source("a topic that Kafka does not take", GOOD_SOURCE.replace("'t'", "'größe'"), "BAD_OPTION", "topic"),
    source("a topic name of 64 kB", f"{GOOD_SOURCE}, topic='{LONG}'", "BAD_OPTION", "topic"),
    BadCatalog("a view name with a space", "v = View('a b', source=s, measures=count)", "BAD_NAME"),
    BadCatalog("an empty view name", "v = View('', source=s, measures=count)", "BAD_NAME"),
    BadCatalog("a view name of 64 kB", f"v = View('{LONG}', source=s, measures=count)", "BAD_NAME"),
    view("a reserved measure name", "measures={'window': Count()}", "BAD_NAME"),
    view("a measure named like the key", "key='id', measures={'id': Count()}", "BAD_NAME"),
    view("a column named like the source's", "columns={'n': 'n + 1'}", "BAD_NAME"),
]
SCHEMAS = [
    source("an empty schema", "'t', schema='', event_time='_timestamp'", "BAD_SCHEMA"),
    source("an unknown type", "'t', schema='a strin', event_time='_timestamp'", "UNKNOWN_TYPE"),
    source("a decimal wider than 38", "'t', schema='a decimal(39,0)', event_time='_timestamp'", "UNKNOWN_TYPE"),
    source("a column twice", "'t', schema='a int, A int', event_time='_timestamp'", "DUPLICATE_COLUMN"),
    source("a reserved column", "'t', schema='_key string', event_time='_timestamp'", "RESERVED_COLUMN"),
    source("an event time that is no column", "'t', schema='a int', event_time='at'", "UNKNOWN_COLUMN"),
    source("an event time that is no timestamp", "'t', schema='at date', event_time='at'", "TYPE_MISMATCH"),
    source(
        "an event id of a double", f"{GOOD_SOURCE.replace('id string', 'id double')}, event_id='id'", "TYPE_MISMATCH"
    ),
    source("a negative horizon", f"{GOOD_SOURCE}, horizon=-1", "BAD_OPTION"),
    source("a bound below zero", f"{GOOD_SOURCE}, max_ahead=days(-1)", "BAD_OPTION", "max_ahead"),
]
EXPRESSIONS = [
    view("an unknown column", "where='nn > 1'", "UNKNOWN_COLUMN", "nn"),
    view("an unknown key", "key='country'", "UNKNOWN_COLUMN", "country"),
    view("a column that uses itself", "columns={'a': 'a + 1'}", "UNKNOWN_COLUMN"),
    view("columns in a circle", "columns={'a': 'b + 1', 'b': 'a + 1'}", "UNKNOWN_COLUMN"),
    view("a filter that is no condition", "where='n + 1'", "TYPE_MISMATCH", "boolean"),
    view("no SQL", "where='n >'", "BAD_EXPRESSION"),
    view("two statements", "where='n > 1; drop table x'", "BAD_EXPRESSION"),
    view("a comment", "where='n > 1 -- all'", "BAD_EXPRESSION"),
    view("an empty expression", "where=''", "BAD_EXPRESSION"),
    view("an expression of 64 kB", "where='n > 1' + ' and n > 1' * 7000", "BAD_EXPRESSION"),
    view("brackets 5,000 deep", "where='(' * 5000 + 'n > 1' + ')' * 5000", "BAD_EXPRESSION"),
    view("a random number", "where='rand() < 0.5'", "FUNCTION_NOT_ALLOWED", "rand"),
    view("a new id", "columns={'k': 'uuid()'}, key='k'", "FUNCTION_NOT_ALLOWED", "uuid"),
    view("the clock", "where='at < now()'", "FUNCTION_NOT_ALLOWED", "now"),
    view("the clock without brackets", "where='at < current_timestamp'", "NOT_DETERMINISTIC", "current_timestamp"),
    view("the clock as text", "where=\"at < timestamp 'now'\"", "NOT_DETERMINISTIC", "now"),
    view("the clock in a cast", "where=\"to_date(at) < cast('today' as date)\"", "NOT_DETERMINISTIC", "today"),
    view("who asks", "columns={'k': 'current_user'}, key='k'", "NOT_DETERMINISTIC", "current_user"),
    view("the session's database", "columns={'k': 'current_database()'}, key='k'", "FUNCTION_NOT_ALLOWED"),
    view("Java by reflection", "where=\"java_method('java.lang.System', 'exit', 1) = ''\"", "FUNCTION_NOT_ALLOWED"),
    view("an aggregate", "where='n > max(n)'", "NOT_A_ROW_EXPRESSION", "max"),
    view("a window", "where='n > lag(n) over (order by at)'", "FUNCTION_NOT_ALLOWED", "lag"),
    view("a subquery", "where='n > (select 1)'", "NOT_A_ROW_EXPRESSION", "subquery"),
    view(
        "columns that double 60 times",
        "columns={f'c{i}': f'c{i - 1} + c{i - 1}' if i else 'n' for i in range(60)}",
        "BAD_EXPRESSION",
    ),
    view("7,000 negations", "where='not ' * 7000 + 'true'", "BAD_EXPRESSION"),
    view("a subquery by exists", "where='exists (select 1)'", "FUNCTION_NOT_ALLOWED"),
    view("an exploding function", "columns={'k': 'explode(array(1, 2))'}, key='k'", "FUNCTION_NOT_ALLOWED"),
    view("a key of array type", "columns={'k': 'array(n)'}, key='k'", "TYPE_MISMATCH"),
    view("a key of map type", "columns={'k': 'map(n, n)'}, key='k'", "TYPE_MISMATCH"),
    view("all columns", "columns={'k': '*'}, key='k'", "BAD_EXPRESSION"),
]
OPTIONS = [
    view("no measures", "measures={}", "NO_MEASURES"),
    measure("a measure without its expression", "Sum()", "MISSING_EXPRESSION"),
    measure("a sum of text", "Sum('id')", "TYPE_MISMATCH", "number"),
    measure("the least of bytes", "Min('raw')", "TYPE_MISMATCH"),
    measure("a weight that may overflow", "TopK('id', weight='n * 1L')", "TYPE_MISMATCH"),
    measure("no categories", "TopK('id', k=0)", "BAD_OPTION"),
    measure("a sketch out of range", "ApproxDistinct('id', lg_k=30)", "BAD_OPTION"),
    measure("a quantile beyond 1", "Quantiles('n', at=[1.5])", "BAD_OPTION"),
    measure("a quantile of text", "Quantiles('n', at=['p95'])", "BAD_OPTION"),
    view("a bucket of 0", "bucket=hours(0)", "BAD_OPTION", "bucket"),
    view("a negative bucket", "bucket=hours(-1)", "BAD_OPTION", "bucket"),
    view("a bucket of a million years", "bucket=days(365_000_000)", "BAD_OPTION", "bucket"),
    view("keep without a bucket", "keep=days(1)", "BAD_OPTION", "keep"),
    view("keep shorter than the bucket", "bucket=days(1), keep=hours(1)", "BAD_OPTION", "keep"),
]
ANSWERS = [
    answer("an answer that is no arithmetic", "'lambda: 1'", "BAD_ANSWER"),
    answer("an answer that calls out", "'__import__(\"os\")'", "BAD_ANSWER"),
    answer("an answer of another's attribute", "'m.__class__()'", "BAD_ANSWER"),
    answer("an answer with an unknown measure", "'m / n'", "UNKNOWN_MEASURE"),
    answer("an answer over another answer", "'a + 1'", "UNKNOWN_MEASURE"),
    answer("an empty answer", "''", "BAD_ANSWER"),
    answer("a constant that is no value", "'m + ...'", "BAD_ANSWER"),
    answer("an operator that answers lack", "'m << 2'", "BAD_ANSWER"),
    answer("bits turned round", "'~m'", "BAD_ANSWER"),
    answer("brackets 5,000 deep in an answer", "'(' * 5000 + 'm' + ')' * 5000", "BAD_ANSWER"),
    answer("an answer 20,000 terms long", "'m' + ' + m' * 20000", "BAD_ANSWER"),
]
CATALOGS = [*PYTHON, *TYPES, *NAMES, *SCHEMAS, *EXPRESSIONS, *OPTIONS, *ANSWERS]
