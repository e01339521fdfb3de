"""`tideline serve`: the HTTP API and the page."""

from __future__ import annotations

import argparse

from tideline.cli.options import Commands, add_command, logged_settings


def register(commands: Commands) -> None:
    parser = add_command(commands, "serve", "the HTTP API and its page", run)
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", help="port, or auto for a free one (default 8400)")
    parser.add_argument("--flight-port", help="port for Arrow Flight SQL, auto, or off (default off)")


def run(args: argparse.Namespace) -> None:
    from serving_layer.server import Doors, serve
    from tideline.runtime.home import Home
    from tideline.runtime.logs import announce

    overrides = {"serve.host": args.host, "serve.port": args.port, "serve.flight_port": args.flight_port}
    settings = logged_settings(args, overrides)
    flight = settings["serve.flight_port"]
    doors = Doors(
        settings["serve.tls_certificate"],
        settings["serve.tls_key"],
        settings["serve.cors_origins"],
        None if flight == "off" else flight,
    )
    host, port, most_rows = settings["serve.host"], settings["serve.port"], settings["serve.most_rows"]
    serve(Home(args.home), host, port, announce, doors, most_rows)
