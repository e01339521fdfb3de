"""`tideline dead-letters list|show|replay`: the records that could not become events, kept whole with their reason."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tideline.cli.options import Commands, add_bootstrap, add_command, add_output, settings_of
from tideline.cli.output import print_json, print_rows
from tideline.errors import UsageError
from tideline.runtime.home import Home

_COLUMNS = ("source", "partition", "offset", "at", "reason", "bytes", "value")
_SHOWN = 80  # bytes of a value in a list
_LISTED = 100  # dead letters that are shown unless --limit says otherwise


def register(commands: Commands) -> None:
    parser = add_command(
        commands, "dead-letters", "records that could not become events: list, show or replay them", run
    )
    add_bootstrap(parser)
    parser.add_argument("action", choices=("list", "show", "replay"))
    parser.add_argument("places", nargs="*", metavar="SOURCE:PARTITION:OFFSET", help="which (show and replay)")
    parser.add_argument("--source", metavar="S", help="of this source only")
    parser.add_argument("--reason", metavar="TEXT", help="those whose reason holds this text")
    parser.add_argument("--limit", type=int, metavar="N", help=f"at most N (default: {_LISTED}; all for replay)")
    add_output(parser, ("table", "json", "csv"))


def run(args: argparse.Namespace) -> None:
    from tideline.dead_letters import find, read_place, replay
    from tideline.runtime.installation import find_bootstrap, open_applied
    from tideline.source import check_known

    home, settings = Home(args.home).require(), settings_of(args, {"kafka.bootstrap": args.bootstrap})
    with open_applied(home) as store, store.snapshot() as snapshot:
        ledger = snapshot.ledger
    if args.source is not None:
        check_known(args.source, ledger.sources)
    places = [read_place(text) for text in args.places]
    if args.action != "list" and not places and not (args.source or args.reason):
        raise UsageError(
            "NO_DEAD_LETTER_NAMED",
            f"{args.action} needs SOURCE:PARTITION:OFFSET, --source or --reason",
            "tideline dead-letters list shows them",
        )
    bootstrap = find_bootstrap(home, settings)
    limit = _LISTED if args.limit is None and args.action != "replay" else args.limit
    letters = find(home, ledger, bootstrap, args.source, args.reason, places, limit)
    if args.limit is None and len(letters) == limit:
        print(f"tideline: these are the first {limit}; --limit N shows more", file=sys.stderr)
    if args.action == "replay":
        sent = replay(ledger, bootstrap, letters)
        print_rows(
            ("source", "replayed"), [{"source": name, "replayed": count} for name, count in sent.items()], args.output
        )
    elif args.action == "show" or args.output == "json":
        print_json([letter.to_json() for letter in letters])
    else:
        print_rows(_COLUMNS, [_shown(letter.to_json()) for letter in letters], args.output)


def _shown(letter: dict[str, Any]) -> dict[str, Any]:
    return {**letter, "value": letter["value"][:_SHOWN]}
