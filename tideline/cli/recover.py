"""`tideline recover`: going on where a part of the log is gone."""

from __future__ import annotations

import argparse

from tideline.cli.layers import describe
from tideline.cli.options import Commands, add_bootstrap, add_command, add_output, logged_settings
from tideline.cli.output import print_json, print_rows
from tideline.runtime.home import Home

_COLUMNS = ("topic", "partition", "begin", "end", "why", "counted")


def register(commands: Commands) -> None:
    parser = add_command(commands, "recover", "go on where Kafka has lost records: say which, mark the answers", run)
    add_bootstrap(parser)
    parser.add_argument(
        "--rebase",
        action="store_true",
        help="the topics were made anew, here or elsewhere, and go on from there",
    )
    add_output(parser, ("table", "json"))


def run(args: argparse.Namespace) -> None:
    from batch_layer.service import run_recover
    from tideline.runtime.stopped import kafka_of

    settings, home = logged_settings(args, {"kafka.bootstrap": args.bootstrap}), Home(args.home).require()
    with home.lock("up"), kafka_of(home, settings) as bootstrap:
        losses, report = run_recover(home, settings, bootstrap, args.rebase)
    if args.output == "json":
        print_json({"losses": [loss.to_json() for loss in losses], "run": report})
        return
    if losses:
        print_rows(_COLUMNS, [loss.to_json() for loss in losses], args.output)
    else:
        print("nothing is lost")
    print(describe(report))
