"""`tideline sql STATEMENT`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tideline.cli.options import Commands, add_command, add_output
from tideline.cli.output import print_arrow, print_json, print_rows


def register(commands: Commands) -> None:
    parser = add_command(commands, "sql", "a SELECT of DuckDB's SQL over the merged views, all of one snapshot", run)
    parser.add_argument("statement", metavar="STATEMENT", help="the statement; -: read it from standard input")
    parser.add_argument("--limit", metavar="N", help="refuse an answer of more rows (default and most: 100000)")
    parser.add_argument("--timeout", metavar="SECONDS", help="how long it may take (default 30)")
    add_output(parser)


def run(args: argparse.Namespace) -> None:
    import tideline
    from serving_layer.query import seconds, whole
    from serving_layer.sql.engine import SqlEngine
    from serving_layer.sql.errors import MOST_ROWS
    from serving_layer.sql.process import SECONDS
    from serving_layer.sql.show import shown_rows

    asked = whole("limit", args.limit, 0)
    rows = MOST_ROWS if asked is None else min(asked, MOST_ROWS)
    limit = SECONDS if args.timeout is None else seconds("timeout", args.timeout)
    text = sys.stdin.read() if args.statement == "-" else args.statement
    with tideline.open(args.home) as reader:
        answer = SqlEngine(reader).run(text, rows, limit)
    if args.output == "arrow":
        print_arrow(answer.table)
        return
    columns, found = answer.table.column_names, shown_rows(answer.table)
    if args.output == "json":
        print_json({"columns": columns, "rows": found, "proofs": dict(answer.proofs)})
        return
    named: list[dict[str, Any]] = [dict(zip(_apart(columns), row, strict=True)) for row in found]
    print_rows(_apart(columns), named, args.output)


def _apart(columns: list[str]) -> list[str]:
    """The names, each once."""
    seen: dict[str, int] = {}
    found = []
    for name in columns:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return found
