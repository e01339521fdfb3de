"""`tideline plan`, `apply` and `check`: what a catalog would change, making it so, and testing it without Kafka."""

from __future__ import annotations

import argparse
import shutil
from typing import TYPE_CHECKING

from tideline.cli.options import Commands, add_bootstrap, add_command, add_output, settings_of
from tideline.cli.output import print_rows
from tideline.runtime.home import Home

if TYPE_CHECKING:
    from tideline.spark.resolve import Resolved

_COLUMNS = ("kind", "name", "action", "why")


def register(commands: Commands) -> None:
    for name, help, run in (
        ("plan", "what applying a catalog would change", run_plan),
        ("apply", "register a catalog's sources and views", run_apply),
        ("check", "test a catalog's views on events, with neither Kafka nor cluster", run_check),
    ):
        parser = add_command(commands, name, help, run)
        parser.add_argument(
            "--catalog", metavar="FILE", required=True, help="a Python file that declares sources and views"
        )
        add_output(parser, ("table", "json", "csv"))
        if name == "apply":
            add_bootstrap(parser)
            parser.add_argument(
                "--accept-narrower",
                action="store_true",
                help="let a source drop a column, or give it a type that takes fewer values",
            )
            parser.add_argument(
                "--retry", metavar="VIEW", action="append", default=[], help="build a quarantined view again"
            )
        if name == "check":
            parser.add_argument(
                "--events", metavar="FILE", help="CSV or JSON lines to test with (default: made-up events)"
            )
            parser.add_argument("--row-id", metavar="COLUMN", help="add the row's number as this column")
            parser.add_argument("--source", metavar="S", help="the source of --events, where the catalog has several")


def resolve(args: argparse.Namespace) -> Resolved:
    """The catalog that `--catalog` names, checked by Spark."""
    from tideline.catalog import load_catalog
    from tideline.runtime.installation import layer_session
    from tideline.spark.resolve import resolve_catalog

    catalog = load_catalog(args.catalog)
    return resolve_catalog(layer_session("tideline-catalog", Home(args.home), settings_of(args), brief=True), catalog)


def run_plan(args: argparse.Namespace) -> None:
    from tideline.apply import plan_changes
    from tideline.ledger import Ledger
    from tideline.stores.lmdb import LmdbStore

    resolved = resolve(args)
    ledger = Ledger.create("")
    if (Home(args.home).store / "data.mdb").exists():
        with LmdbStore.open(args.home, readonly=True) as store, store.snapshot() as snapshot:
            ledger = snapshot.ledger
    print_rows(_COLUMNS, [change.to_json() for change in plan_changes(ledger, resolved)], args.output)


def run_apply(args: argparse.Namespace) -> None:
    from tideline.apply import apply_catalog
    from tideline.runtime.installation import find_bootstrap
    from tideline.stores.lmdb import LmdbStore

    home, settings = Home(args.home).prepare(), settings_of(args, {"kafka.bootstrap": args.bootstrap})
    bootstrap = find_bootstrap(home, settings)
    resolved = resolve(args)
    if not (home.store / "data.mdb").exists():
        shutil.rmtree(home.batch)  # segments of a store that was lost, whose ids will be given again
    with LmdbStore.open(home.path, create=True) as store:
        changes = apply_catalog(
            store, resolved, bootstrap, settings["kafka.partitions"], home.master, args.accept_narrower, args.retry
        )
    print_rows(_COLUMNS, [change.to_json() for change in changes], args.output)


def run_check(args: argparse.Namespace) -> int:
    from tideline.runtime.installation import layer_session
    from tideline.testing import check_views

    resolved = resolve(args)
    results = check_views(
        layer_session("tideline-check", Home(args.home), settings_of(args), brief=True),
        resolved,
        args.events,
        args.source,
        args.row_id,
    )
    print_rows(("view", "law", "holds", "detail"), [result.to_json() for result in results], args.output)
    return 0 if all(result.holds for result in results) else 1
