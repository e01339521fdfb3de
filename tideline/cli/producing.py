"""`tideline produce`: a file's events into a source's topic, with progress."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from tideline.cli.options import Commands, add_bootstrap, add_command, settings_of
from tideline.errors import UsageError
from tideline.runtime.home import Home

if TYPE_CHECKING:
    from tideline.produce import Progress


def register(commands: Commands) -> None:
    parser = add_command(commands, "produce", "send a CSV or JSON-lines file (.gz too) into a source's topic", run)
    add_bootstrap(parser)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--source", metavar="S", required=True)
    parser.add_argument("--rate", type=float, metavar="N", help="records per second (default: as fast as it goes)")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N rows only")
    parser.add_argument("--shuffle", type=int, metavar="SEED", help="in a random order that depends on SEED")
    parser.add_argument("--duplicate", type=float, default=0.0, metavar="P", help="repeat events with this probability")
    parser.add_argument("--row-id", metavar="COLUMN", help="add the row's number as this column")
    parser.add_argument("--retract", action="store_true", help="send the rows as retractions, to take them back")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> None:
    from tideline.cut import Cut
    from tideline.produce import produce
    from tideline.runtime.installation import find_bootstrap, open_applied
    from tideline.source import SourceDefinition, check_known

    home, settings = Home(args.home).require(), settings_of(args, {"kafka.bootstrap": args.bootstrap})
    with open_applied(home) as store, store.snapshot() as snapshot:
        sources = snapshot.ledger.sources
    check_known(args.source, sources)
    source = SourceDefinition.from_json(sources[args.source])
    if args.retract and source.operation is None:
        raise UsageError(
            "NO_OPERATION",
            f"rows of {source.name} cannot be retracted",
            "give the source an operation (docs/catalog.md, Corrections)",
            source=source.name,
        )

    def show(progress: Progress) -> None:
        if sys.stderr.isatty():
            print(f"\r{describe(progress)}\x1b[K", end="", file=sys.stderr, flush=True)

    summary = produce(
        args.file,
        source.topic,
        find_bootstrap(home, settings),
        source.schema,
        source.event_id,
        rate=args.rate,
        limit=args.limit,
        shuffle_seed=args.shuffle,
        duplicate=args.duplicate,
        row_id=args.row_id,
        retract=source.operation if args.retract else None,
        progress=show,
    )
    if sys.stderr.isatty():
        print(file=sys.stderr)
    found = summary.to_json()
    if args.output == "json":
        print(json.dumps(found))
    else:
        print(
            f"sent {found['sent']} events and {found['duplicates']} repeats in {found['seconds']:.1f} s; "
            f"they end at {Cut.from_json(found['end'])}"
        )


def describe(progress: Progress) -> str:
    """One line on how far a run is."""
    share = "" if progress.fraction is None else f"{progress.fraction:4.0%}, "
    left = "" if progress.eta is None else f", {progress.eta:.0f} s left"
    return f"{share}{progress.sent} sent and {progress.duplicates} repeats, {progress.rate:,.0f}/s{left}"
