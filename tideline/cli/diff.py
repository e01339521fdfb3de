"""`tideline diff VIEW@old VIEW`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tideline.cli.options import Commands, add_command, add_output
from tideline.cli.output import print_rows
from tideline.errors import EXIT_DONE, EXIT_NO, UsageError

if TYPE_CHECKING:
    from serving_layer.diff import Diff


def register(commands: Commands) -> None:
    parser = add_command(commands, "diff", "what two definitions of a view answer differently, at one cut", run)
    parser.add_argument("left", metavar="VIEW@WHICH", help="WHICH is old, a version's number, or a fingerprint")
    parser.add_argument("right", metavar="VIEW[@WHICH]", nargs="?", help="default: the view as it is answered now")
    parser.add_argument("--limit", metavar="N", type=int, default=20, help="at most N keys that differ (default 20)")
    add_output(parser, ("table", "json", "csv"))


def run(args: argparse.Namespace) -> int:
    import tideline

    if args.limit < 0:
        raise UsageError("BAD_VALUE", f"--limit {args.limit} is not a number of keys", "give 0 or more")
    with tideline.open(args.home) as reader:
        diff = reader.diff(args.left, args.right, args.limit)
    keys = [column.name for column in diff.left.view.key]
    columns = [*keys, *(["bucket"] if diff.left.view.bucket else []), "in", "measure", "left", "right"]
    if args.output != "table" or diff.rows:
        print_rows(columns, list(_rows(diff)), args.output, diff.to_json())
    if args.output == "table":
        print("\n".join(_summary(diff)))
    return EXIT_DONE if diff.equal else EXIT_NO


def _rows(diff: Diff) -> Iterator[dict[str, Any]]:
    """A line for every measure that differs."""
    for row in diff.rows:
        for name, values in (row["measures"] or {None: {}}).items():
            yield {**row["key"], "bucket": row["bucket"], "in": row["in"], "measure": name, **values}


def _summary(diff: Diff) -> Iterator[str]:
    found, counts = diff.to_json(), diff.counts
    if diff.rows:
        yield ""
    floor = f"; nothing before {found['floor']}" if found["floor"] else ""
    yield f"left    {_side(found['left'])}"
    yield f"right   {_side(found['right'])}"
    yield f"cut     both up to {str(diff.cut) or 'nothing'}{floor}"
    yield (
        f"keys    {counts['equal']} equal, {counts['both']} differ, {counts['left']} only left, "
        f"{counts['right']} only right"
    )


def _side(side: dict[str, Any]) -> str:
    where = "live" if side["version"] is None else f"version {side['version']}"
    only = f"; only here: {', '.join(side['only'])}" if side["only"] else ""
    return f"{side['view']}@{side['fingerprint']}, {where}{only}"
