"""`tideline speed` and `tideline batch`: one layer each."""

from __future__ import annotations

import argparse
import json
import os
import signal
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from tideline.cli.options import Commands, add_bootstrap, add_command, logged_settings, settings_of
from tideline.durations import to_micros
from tideline.runtime.home import Home
from tideline.runtime.logs import announce
from tideline.runtime.priority import give_way


def register(commands: Commands) -> None:
    speed = add_command(commands, "speed", "the speed layer: fold Kafka's records as they come", run_speed)
    add_bootstrap(speed)
    batch = add_command(commands, "batch", "a batch run: seal, archive, compute, publish, expire", run_batch)
    add_bootstrap(batch)
    batch.add_argument("--full", action="store_true", help="rebuild every view from the master")
    batch.add_argument("--redecode", action="store_true", help="decode every record of the master again, then rebuild")
    batch.add_argument(
        "--every", metavar="TIME", help="go on, with this time between the starts of two runs, such as 15m"
    )
    batch.add_argument("-o", "--output", choices=("table", "json"), default="table")
    conf = add_command(commands, "spark-conf", "print the properties file for spark-submit", run_spark_conf)
    conf.add_argument("--to", metavar="FILE", help="write it there instead")


def run_speed(args: argparse.Namespace) -> None:
    from speed_layer.service import run_speed
    from tideline.runtime.installation import find_bootstrap, stop_on_signals

    settings, home = logged_settings(args, {"kafka.bootstrap": args.bootstrap}), Home(args.home).require()
    run_speed(home, settings, find_bootstrap(home, settings), stop_on_signals(), announce)


def run_batch(args: argparse.Namespace) -> None:
    from batch_layer.service import run_batch
    from tideline.runtime.installation import find_bootstrap
    from tideline.runtime.stopped import own_kafka

    settings, home = logged_settings(args, {"kafka.bootstrap": args.bootstrap}), Home(args.home).require()
    every = to_micros(args.every) / 1e6 if args.every else None

    def report(found: Mapping[str, Any] | None) -> None:
        if args.output == "json":
            print(json.dumps(found), flush=True)
        else:
            announce(describe(found))

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _leave(home))
    give_way(settings["batch.nice"])
    with nullcontext() if every else own_kafka(home, settings) as started:
        run_batch(
            home,
            settings,
            started or find_bootstrap(home, settings),
            full=args.full or args.redecode,
            redecode=args.redecode,
            every=every,
            report=report,
        )


def _leave(home: Home) -> None:
    """Ends the process at once: a run can be cut off anywhere, and the next one goes on from there."""
    home.clear_status("batch")
    os._exit(0)


def describe(report: Mapping[str, Any] | None) -> str:
    """One line on what a run did."""
    if report is None:
        return "nothing new: no version was made"
    steps = ", ".join(f"{step['name']} {step['seconds']:.1f} s" for step in report["steps"])
    done = f"{report['mode']}, {report['rows']} records in {report['seconds']:.1f} s"
    return f"version {report['version']}: {done} ({steps})"


def run_spark_conf(args: argparse.Namespace) -> None:
    from pathlib import Path

    from tideline.runtime.spark_conf import properties_text, spark_settings, write_spark_properties

    home, settings = Home(args.home), settings_of(args)
    if args.to:
        print(write_spark_properties(Path(args.to), home, settings))
    else:
        print(properties_text(spark_settings(home, settings)), end="")
