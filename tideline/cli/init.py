"""`tideline init` and `tideline submit`: a first project, and its layers by spark-submit."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from tideline.cli.options import Commands, add_command, settings_of
from tideline.errors import UsageError
from tideline.runtime.home import Home


def register(commands: Commands) -> None:
    parser = add_command(commands, "init", "write a small project that runs at once", run_init)
    parser.add_argument("name", metavar="NAME", help="the folder to make")
    parser.add_argument("--sample", metavar="FILE", help="infer the source from this CSV or JSON-lines file (.gz too)")
    parser.add_argument("--from-topic", metavar="TOPIC", help="infer the source from the records of this topic")
    parser.add_argument(
        "--bootstrap-server", dest="bootstrap", metavar="HOST:PORT", help="the Kafka that has the topic"
    )
    submit = add_command(commands, "submit", "run a layer by spark-submit", run_submit)
    submit.add_argument("layer", choices=("speed", "batch"))
    submit.add_argument("--conf", metavar="NAME=VALUE", action="append", default=[], help="a setting of Spark's")
    submit.set_defaults(rest=())
    submit.epilog = "What stands behind -- goes to the layer: tideline submit batch -- --full."


def run_init(args: argparse.Namespace) -> None:
    from tideline.starter.project import from_example, from_sample, from_topic

    folder = Path(args.name)
    if args.sample and args.from_topic:
        raise UsageError("BAD_ARGUMENTS", "--sample and --from-topic are two ways", "give one of them")
    if bool(args.from_topic) != bool(args.bootstrap):
        raise UsageError("BAD_ARGUMENTS", "--from-topic and --bootstrap-server go together", "give both")
    if args.from_topic:
        servers = settings_of(args, {"kafka.bootstrap": args.bootstrap}).kafka
        project = from_topic(folder, args.from_topic, servers or "")
    else:
        project = from_sample(folder, Path(args.sample)) if args.sample else from_example(folder)
    for path in project.files:
        print(path)
    for note in project.notes:
        print(note, file=sys.stderr)
    print("", f"cd {shlex.quote(str(folder))}", *project.commands, sep="\n")


def run_submit(args: argparse.Namespace) -> None:
    from tideline.runtime.spark_conf import submit_command

    home, settings = Home(args.home).prepare(), settings_of(args)
    config = ["--config", str(Path(args.config).resolve())] if args.config else []
    command, environment = submit_command(args.layer, home, settings, args.conf)
    os.execve(command[0], [*command, "--home", str(home.path), *config, *args.rest], environment)
