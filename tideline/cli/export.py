"""`tideline export VIEW`: an answer as a Delta table, a Parquet file, or a database's table, once or on a schedule."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tideline.cli.options import Commands, add_command, logged_settings
from tideline.cli.query import add_query, query_of
from tideline.errors import OutsideError, UsageError

if TYPE_CHECKING:
    from serving_layer.result import Result

log = logging.getLogger(__name__)


def register(commands: Commands) -> None:
    parser = add_command(commands, "export", "an answer as a Delta table, a Parquet file or a database's table", run)
    add_query(parser)
    parser.add_argument("--into", metavar="PATH", help="a folder for Delta, or its s3://, az://, gs://; a Parquet file")
    parser.add_argument("--format", choices=("delta", "parquet"), default="delta", help="default delta")
    parser.add_argument("--jdbc", metavar="URL", help="a database, such as jdbc:postgresql://host/name")
    parser.add_argument("--table", metavar="NAME", help="its table")
    parser.add_argument("--driver", metavar="CLASS", help="its driver's class, where Spark does not find it by the URL")
    parser.add_argument("--user", help="of the database; the password is read from TIDELINE_JDBC_PASSWORD")
    parser.add_argument("--every", metavar="TIME", help="go on, with this time between the starts of two, such as 15m")


def run(args: argparse.Namespace) -> None:
    import tideline
    from tideline.durations import to_micros
    from tideline.runtime.installation import stop_on_signals
    from tideline.runtime.logs import announce

    if bool(args.into) == bool(args.jdbc) or bool(args.jdbc) != bool(args.table):
        raise UsageError("BAD_ARGUMENTS", "export needs a place", "give --into PATH, or --jdbc URL --table NAME")
    query, every = query_of(args), None if args.every is None else to_micros(args.every) / 1e6
    stopping = stop_on_signals() if every else None
    with ExitStack() as stack:
        reader, write = stack.enter_context(tideline.open(args.home)), _writer(args, stack)
        while True:
            began = time.monotonic()
            try:
                result = reader.query(query)
                rows = write(result)
                announce(f"exported {rows} rows of {query.view} to {args.into or args.table} at {result.proof['cut']}")
            except OutsideError:
                if stopping is None:
                    raise
                # A schedule outlives a fault outside, such as a database that is away.
                log.exception("the export failed; the next one begins as scheduled")
            if stopping is None or every is None or stopping.wait(max(every - (time.monotonic() - began), 0)):
                return


def _writer(args: argparse.Namespace, stack: ExitStack) -> Callable[[Result], int]:
    import os

    from tideline.runtime.home import Home
    from tideline.runtime.installation import layer_session

    if args.into:
        from serving_layer.export import export_files

        return lambda result: export_files(result, args.into, args.format)
    from tideline.spark.jdbc import export_jdbc

    properties = {"driver": args.driver, "user": args.user, "password": os.environ.get("TIDELINE_JDBC_PASSWORD")}
    given = {name: value for name, value in properties.items() if value}
    spark = layer_session("tideline-export", Home(args.home).require(), logged_settings(args), brief=True)
    stack.callback(spark.stop)
    return lambda result: export_jdbc(spark, result.to_arrow(), args.jdbc, args.table, given)
