"""`tideline token create|list|revoke`: who may ask the HTTP API."""

from __future__ import annotations

import argparse
import datetime as dt

from tideline.cli.options import Commands, add_command, add_output
from tideline.cli.output import print_json, print_rows

_COLUMNS = ("id", "name", "role", "created", "expires")


def register(commands: Commands) -> None:
    parser = add_command(commands, "token", "tokens for the HTTP API: create, list, revoke", run_list)
    parser.add_argument("what", choices=("create", "list", "revoke"))
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the new token; of the one to revoke, or its id")
    parser.add_argument("--role", default="reader", help="admin, reader, writer, operator, or one of HOME/access.toml")
    parser.add_argument("--expires", metavar="LENGTH", help="after which it ends, such as 90d (default: never)")
    add_output(parser, ("table", "json"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from tideline.errors import UsageError

    if args.what == "list":
        run_list(args)
    elif args.name is None:
        raise UsageError("BAD_ARGUMENTS", f"token {args.what} needs a name", f"tideline token {args.what} NAME")
    elif args.what == "create":
        run_create(args)
    else:
        run_revoke(args)


def run_create(args: argparse.Namespace) -> None:
    from serving_layer.lock.roles import load_access
    from serving_layer.lock.tokens import TokenFile
    from tideline.durations import to_micros
    from tideline.runtime.home import Home

    home = Home(args.home).require()
    role = load_access(home.path / "access.toml").role(args.role)
    seconds = None if args.expires is None else to_micros(args.expires) / 1e6
    text, token = TokenFile(home.path / "tokens.json").create(args.name, role.name, seconds)
    if args.output == "json":
        print_json({"token": text, **token.shown()})
        return
    print(text)
    print(f"\nThis is told once. It has the role {role.name}; send it as `Authorization: Bearer TOKEN`.")


def run_list(args: argparse.Namespace) -> None:
    from serving_layer.lock.tokens import TokenFile
    from tideline.runtime.home import Home

    tokens = TokenFile(Home(args.home).require().path / "tokens.json").all().values()
    rows = [{**one.shown(), "created": _time(one.created), "expires": _time(one.expires)} for one in tokens]
    print_rows(_COLUMNS, rows, args.output, {"tokens": rows})


def run_revoke(args: argparse.Namespace) -> None:
    from serving_layer.lock.tokens import TokenFile
    from tideline.runtime.home import Home

    token = TokenFile(Home(args.home).require().path / "tokens.json").revoke(args.name)
    if args.output == "json":
        print_json(token.shown())
        return
    print(f"revoked {token.name} ({token.id}); the server refuses it within a second")


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
