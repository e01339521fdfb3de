"""`tideline demo`: a shop with live traffic, or a file of the user's own, with a page that shows its views change."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from tideline.cli.options import Commands, add_command, settings_of
from tideline.cli.up import add_ports, port_settings, say
from tideline.runtime.home import Home


def register(commands: Commands) -> None:
    parser = add_command(commands, "demo", "the built-in shop with live traffic and its page, on this machine", run)
    add_ports(parser)
    parser.add_argument("--rate", type=float, default=200.0, metavar="N", help="events per second (default 200)")
    parser.add_argument("--file", metavar="FILE", help="a CSV or JSON-lines file of your own instead of the shop")
    parser.add_argument("--every", metavar="TIME", help="time between the starts of two batch runs (default 30s)")
    parser.add_argument("--check", action="store_true", help="show all of it in bounded time, verify, and stop")


def run(args: argparse.Namespace) -> int:
    from tideline.simulate.demo import Demo

    scratch = tempfile.mkdtemp(prefix="tideline-demo-") if args.check else None
    ports = {"kafka.port": "auto", "serve.port": "auto"} if args.check else port_settings(args)
    settings = settings_of(args, {"batch.every": args.every or ("5s" if args.check else "30s"), **ports})
    try:
        home = Home(scratch or args.home)
        demo = Demo(home, settings, args.rate, Path(args.file) if args.file else None, say)
        return demo.check() if args.check else demo.show()
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
