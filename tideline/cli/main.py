"""`tideline COMMAND`: finds the command, runs it, and turns what it raises into one line and an exit code.

Exit codes: 0 done, 1 the answer is no, 2 wrong use or wrong input, 3 a fault outside.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NoReturn

from tideline.cli.crashes import explain_crashes
from tideline.errors import EXIT_DONE, EXIT_OUTSIDE, EXIT_USAGE, OutsideError, TidelineError, UsageError
from tideline.runtime.logs import fields, is_json

MODULES = (
    "tideline.cli.query",
    "tideline.cli.sql",
    "tideline.cli.export",
    "tideline.cli.views",
    "tideline.cli.status",
    "tideline.cli.serve",
    "tideline.cli.token",
    "tideline.cli.init",
    "tideline.cli.up",
    "tideline.cli.demo",
    "tideline.cli.definitions",
    "tideline.cli.layers",
    "tideline.cli.producing",
    "tideline.cli.dead_letters",
    "tideline.cli.diff",
    "tideline.cli.erase",
    "tideline.cli.verify",
    "tideline.cli.recover",
    "tideline.cli.rebuild",
)
"""Modules with commands, in the order of `tideline --help`; each has `register(commands)`."""

_VALUE_MAY_START_WITH_DASH = ("--order",)
_SHORT_OPTIONS = ("-o", "-h")


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line as a UsageError, like all else that is wrong."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        raise UsageError("BAD_ARGUMENTS", message, f"see {self.prog} --help")


def make_parser() -> Parser:
    """The parser with every module's commands."""
    from tideline import __version__

    parser = Parser(prog="tideline", description="Exact views of a Kafka stream: batch, speed, and their merge.")
    parser.add_argument("--version", action="version", version=f"tideline {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=Parser)
    for module in MODULES:
        importlib.import_module(module).register(commands)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command. `key=value` words may stand anywhere, and `--order` take `-name`."""
    parser = make_parser()
    words, rest = (list(argv[: argv.index("--")]), list(argv[argv.index("--") + 1 :])) if "--" in argv else (argv, [])
    args, extra = parser.parse_known_args(_join_dashed(words))
    if args.command is None:
        parser.error("a command is missing")
    if rest and not hasattr(args, "rest"):
        parser.error(f"{args.command} does not take -- {' '.join(rest)}")
    args.rest = rest
    if extra and (not hasattr(args, "pairs") or any(word.startswith("-") for word in extra)):
        parser.error(f"{args.command} does not take {' '.join(extra)}")
    if extra:
        args.pairs = [*args.pairs, *extra]
    return args


def _join_dashed(argv: Sequence[str]) -> list[str]:
    joined: list[str] = []
    words = iter(argv)
    for word in words:
        following = next(words, None) if word in _VALUE_MAY_START_WITH_DASH else None
        if following is None:
            joined.append(word)
        elif following in _SHORT_OPTIONS or following.startswith("--"):
            joined += [word, following]
        else:
            joined.append(f"{word}={following}")
    return joined


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; its exit code. An error is one line on stderr, with `-o json` also JSON on stdout."""
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        explain_crashes()
    try:
        args = parse(words)
        code = args.run(args)
        sys.stdout.flush()
        return EXIT_DONE if code is None else int(code)
    except TidelineError as error:
        return _report(error, words)
    except BrokenPipeError:
        # Whoever read the output has enough of it. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except KeyboardInterrupt:
        return EXIT_OUTSIDE
    except OSError as error:
        reason = error.strerror or str(error)
        place = f": {error.filename}" if error.filename else ""
        return _report(OutsideError("SYSTEM_FAULT", f"{reason}{place}", reason=reason), words)
    except SystemExit as end:  # --help and --version
        return end.code if isinstance(end.code, int) else EXIT_USAGE if end.code else EXIT_DONE
    except Exception as error:  # noqa: BLE001 - exit code 1 would say that the answer is no
        if not is_json():
            traceback.print_exc()
        fault = OutsideError("INTERNAL_FAULT", f"{type(error).__name__}: {error}", "please report this")
        fault.__cause__ = error
        return _report(fault, words)


def _report(error: TidelineError, words: Sequence[str]) -> int:
    if _wants_json(words):
        print(_printable(json.dumps(error.to_json(), ensure_ascii=False)), flush=True)
    line = f"tideline: {_printable(' '.join(str(error).split()))}"
    if is_json():
        logging.getLogger("tideline").error(line, exc_info=error.__cause__, extra=fields(error=error))
    else:
        print(line, file=sys.stderr, flush=True)
    return error.exit_code


def _printable(text: str) -> str:
    """Text with half surrogate pairs, which arguments that are not UTF-8 hold, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _wants_json(words: Sequence[str]) -> bool:
    after = any(word in ("-o", "--output") and value == "json" for word, value in pairwise(words))
    return after or "-ojson" in words or "--output=json" in words


if __name__ == "__main__":
    sys.exit(main())
