"""`tideline verify`."""

from __future__ import annotations

import argparse

from tideline.cli.options import Commands, add_bootstrap, add_command, add_output, settings_of
from tideline.cli.output import print_json
from tideline.errors import EXIT_DONE, EXIT_NO
from tideline.runtime.home import Home


def register(commands: Commands) -> None:
    parser = add_command(
        commands, "verify", "recompute views from the log and compare every key, bucket and measure", run
    )
    parser.add_argument("views", nargs="*", metavar="VIEW", help="views to verify (default: all)")
    parser.add_argument("--versions", action="store_true", help="also what each retained version answers")
    add_bootstrap(parser)
    add_output(parser, ("table", "json"))


def run(args: argparse.Namespace) -> int:
    from tideline.oracle import verify
    from tideline.runtime.stopped import own_kafka

    home, settings = Home(args.home), settings_of(args, {"kafka.bootstrap": args.bootstrap})
    with own_kafka(home, settings) as started:
        report = verify(home, args.views, started or settings.kafka, args.versions)
    if args.output == "json":
        print_json(report.to_json())
    else:
        print(report.to_text())
    return EXIT_DONE if report.ok else EXIT_NO
