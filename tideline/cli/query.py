"""`tideline query VIEW [key=value ...]`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tideline.cli.options import Commands, add_command, add_output
from tideline.cli.output import print_result
from tideline.errors import UsageError

if TYPE_CHECKING:
    from serving_layer.query import Query

_OPTIONS = (
    ("from", "TIME", "first bucket, ISO 8601, UTC where it names no zone"),
    ("to", "TIME", "end of the last bucket, exclusive"),
    ("window", "LENGTH", "merge buckets into windows, such as 1d; all: into one row"),
    ("slide", "LENGTH", "a new window every LENGTH"),
    ("zone", "NAME", "days of this time zone, such as Europe/Berlin, and times that name none"),
    ("group-by", "COLUMNS", "the key columns to keep, with commas; none: all together"),
    ("measures", "NAMES", "the measures and answers to show, with commas"),
    ("order", "COLUMNS", "order by these, with commas; - before a name for descending"),
    ("limit", "N", "at most N rows"),
    ("limit-by", "COLUMN:N", "at most N rows of each value of a column"),
    ("cursor", "CURSOR", "go on where an answer with a limit ended, as its `next` says"),
    ("at-least", "CUT", "wait until the answer covers this cut, such as sales:0=10,1=5"),
    ("max-staleness", "LENGTH", "wait until it covers what Kafka held so long ago, such as 5s"),
    ("version", "N", "ask an older batch version"),
    ("timeout", "SECONDS", "how long these two wait (default 10)"),
)


def register(commands: Commands) -> None:
    parser = add_command(commands, "query", "the merged answer of a view, with its proof", run)
    add_query(parser)
    parser.add_argument("--parts", action="store_true", help="also the batch and the speed side (JSON)")
    add_output(parser)


def add_query(parser: argparse.ArgumentParser) -> None:
    """The view, `key=value`, and the options of a query."""
    parser.add_argument("view", metavar="VIEW")
    parser.add_argument("pairs", metavar="key=value", nargs="*", help="filter by a key column; \\N is null")
    for name, metavar, text in _OPTIONS:
        parser.add_argument(f"--{name}", metavar=metavar, dest=f"query_{name.replace('-', '_')}", help=text)


def query_of(args: argparse.Namespace) -> Query:
    """The query that these arguments are. Raises UsageError."""
    from serving_layer.query import Query

    given = {name.replace("-", "_"): getattr(args, f"query_{name.replace('-', '_')}") for name, _, _ in _OPTIONS}
    options = {name: value for name, value in given.items() if value is not None}
    parts = getattr(args, "parts", False)
    return Query.from_json({"view": args.view, "key": _key(args.pairs), "parts": parts, **options})


def run(args: argparse.Namespace) -> None:
    import tideline

    query = query_of(args)
    with tideline.open(args.home) as reader:
        result = reader.query(query)
    print_result(result, args.output)


def _key(pairs: list[str]) -> dict[str, str]:
    key: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError("BAD_ARGUMENTS", f"{pair!r} is not a key filter", "write column=value", value=pair)
        if name in key:
            raise UsageError("BAD_ARGUMENTS", f"{name} is given twice", "filter by each column once", key=name)
        key[name] = value
    return key
