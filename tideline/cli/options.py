"""What commands have in common: `--home`, `--config`, `-o`, and how a command is registered."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tideline.runtime.logs import start_logging
from tideline.settings import Settings, load_settings

FORMATS = ("table", "json", "csv", "arrow")
Run = Callable[[argparse.Namespace], "int | None"]


class Commands(Protocol):
    """What `add_subparsers` returns."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser: ...


def add_command(commands: Commands, name: str, help: str, run: Run) -> argparse.ArgumentParser:
    """A command with `--home` and `--config`; `run` gets the arguments and returns an exit code or None."""
    parser = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
    home = os.environ.get("TIDELINE_HOME", ".tideline")
    parser.add_argument("--home", metavar="DIR", default=home, help="all state (default .tideline)")
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=os.environ.get("TIDELINE_CONFIG"),
        help="settings as a TOML file; see docs/settings.md",
    )
    parser.set_defaults(run=run)
    return parser


def add_output(parser: argparse.ArgumentParser, formats: Sequence[str] = FORMATS) -> None:
    """The option `-o`."""
    parser.add_argument("-o", "--output", choices=formats, default=formats[0], help=f"default {formats[0]}")


def settings_of(args: argparse.Namespace, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings under `--config`, the environment and `overrides`. Raises SettingError."""
    return load_settings(args.config, overrides=overrides)


def logged_settings(args: argparse.Namespace, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a command that goes on for long, which logs from here on as they say."""
    settings = settings_of(args, overrides)
    start_logging(settings["log.format"])
    return settings


def add_bootstrap(parser: argparse.ArgumentParser) -> None:
    """The option `--bootstrap-server`."""
    parser.add_argument(
        "--bootstrap-server",
        dest="bootstrap",
        metavar="HOST:PORT",
        help="the Kafka to use (default: the one that tideline up runs)",
    )
