"""`tideline up`: everything on this machine, until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tideline.cli.options import Commands, add_bootstrap, add_command, settings_of
from tideline.runtime.home import Home


def register(commands: Commands) -> None:
    parser = add_command(commands, "up", "everything on this machine: Kafka, speed, scheduled batch, serving", run)
    parser.add_argument(
        "--catalog", metavar="FILE", required=True, help="a Python file that declares sources and views"
    )
    add_bootstrap(parser)
    add_ports(parser)
    parser.add_argument("--every", metavar="TIME", help="time between the starts of two batch runs (default 5m)")


def add_ports(parser: argparse.ArgumentParser) -> None:
    """The options that choose ports."""
    parser.add_argument("--ports", choices=("auto",), help="any free ports for Kafka and HTTP")
    parser.add_argument("--port", help="port of the HTTP API (default 8400)")


def port_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Settings from the options that choose ports."""
    auto = "auto" if args.ports == "auto" else None
    return {"kafka.port": auto, "serve.port": args.port or auto}


def say(line: str) -> None:
    """A line of progress, for people."""
    print(f"tideline: {line}", file=sys.stderr, flush=True)


def run(args: argparse.Namespace) -> None:
    from tideline.runtime.stack import Stack

    settings = settings_of(args, {"kafka.bootstrap": args.bootstrap, "batch.every": args.every, **port_settings(args)})
    with Stack(Home(args.home), settings, Path(args.catalog), say) as stack:
        print(f"ready: {stack.api} (Kafka at {stack.bootstrap})", flush=True)
        stack.supervisor.watch()
