"""`tideline views` and `tideline describe VIEW`."""

from __future__ import annotations

import argparse
from typing import Any

from tideline.cli.options import Commands, add_command, add_output
from tideline.cli.output import print_json, print_rows, table

_COLUMNS = ("name", "key", "bucket", "keep", "measures", "answers", "source")


def register(commands: Commands) -> None:
    add_output(add_command(commands, "views", "the views that can be asked", run_views))
    parser = add_command(commands, "describe", "one view: key, bucket, measures, answers", run_describe)
    parser.add_argument("view", metavar="VIEW")
    add_output(parser, ("table", "json"))


def run_views(args: argparse.Namespace) -> None:
    import tideline
    from serving_layer.status import quarantined

    with tideline.open(args.home) as reader:
        views, failed = reader.describe_all(), quarantined(reader.ledger())
    rows = [
        {**view, **{name: ", ".join(_names(view[name])) for name in ("key", "measures", "answers")}} for view in views
    ]
    print_rows(_COLUMNS, rows, args.output, {"views": views, "quarantined": failed})
    if args.output == "table":
        for entry in failed:
            print(f"\nquarantined: {entry['view']}, in the {entry['layer']} layer: {entry['reason']}")


def _names(columns: Any) -> list[str]:
    return [column["name"] for column in columns] if isinstance(columns, list) else list(columns)


def run_describe(args: argparse.Namespace) -> None:
    import tideline

    with tideline.open(args.home) as reader:
        view = reader.describe(args.view)
    if args.output == "json":
        print_json(view)
        return
    for name in ("name", "source", "topic", "fingerprint", "bucket", "keep", "floor", "where", "declared_at"):
        if view[name] is not None:
            print(f"{name:<12} {view[name]}")
    parts = [{"part": "key", **column} for column in view["key"]]
    parts += [{"part": "column", "name": name, "expression": sql} for name, sql in view["columns"].items()]
    parts += [_measure(name, measure) for name, measure in view["measures"].items()]
    parts += [{"part": "answer", "name": name, "expression": text} for name, text in view["answers"].items()]
    blank = [
        {name: part.get(name) or "" for name in ("part", "name", "expression", "where", "type", "exact")}
        for part in parts
    ]
    print("\n" + table(list(blank[0]), blank))


def _measure(name: str, measure: dict[str, Any]) -> dict[str, Any]:
    exact = "exact" if measure["bound"]["exact"] else measure["bound"]["text"]
    if "keeps" in measure["bound"]:
        exact += f", keeps its {measure['bound']['keeps']}"
    return {
        "part": measure["kind"],
        "name": name,
        "expression": measure.get("value"),
        "where": measure.get("where"),
        "type": measure["type"],
        "exact": exact,
    }
