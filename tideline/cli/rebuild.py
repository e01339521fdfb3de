"""`tideline rebuild`: a new store from the master, where the old one is damaged or lost."""

from __future__ import annotations

import argparse

from tideline.cli.options import Commands, add_bootstrap, add_command, logged_settings
from tideline.runtime.home import Home


def register(commands: Commands) -> None:
    parser = add_command(commands, "rebuild", "move a damaged store away and make a new one from the master", run)
    parser.add_argument(
        "--catalog", metavar="FILE", required=True, help="the catalog that was applied, which the new store gets"
    )
    add_bootstrap(parser)


def run(args: argparse.Namespace) -> None:
    from batch_layer.service import run_batch
    from tideline.cli.definitions import resolve
    from tideline.cli.layers import describe
    from tideline.rebuild import quiet_home, replace_store
    from tideline.runtime.stopped import kafka_of

    settings = logged_settings(args, {"kafka.bootstrap": args.bootstrap})
    home = Home(args.home).require().prepare()
    with quiet_home(home), kafka_of(home, settings) as bootstrap:
        resolved = resolve(args)
        moved = replace_store(home, resolved, bootstrap, settings["kafka.partitions"])
        if moved is not None:
            print(f"the old store is at {moved}", flush=True)
        run_batch(home, settings, bootstrap, full=True, report=lambda found: print(describe(found), flush=True))
