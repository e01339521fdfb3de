"""`tideline erase`: removes people from everything under the home outside Kafka, and says what Kafka still holds."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tideline.cli.options import Commands, add_bootstrap, add_command, add_output, logged_settings
from tideline.cli.output import print_json, print_rows
from tideline.errors import EXIT_DONE, EXIT_NO, UsageError
from tideline.runtime.home import Home


def register(commands: Commands) -> None:
    parser = add_command(commands, "erase", "remove people from everything but Kafka, and prove it", run)
    add_bootstrap(parser)
    parser.add_argument("--source", metavar="S", required=True, help="the source whose records are theirs")
    parser.add_argument(
        "--key",
        dest="keys",
        metavar="COLUMN=ID",
        action="append",
        required=True,
        help="records with this id in a column, or in _key; several may be given; - reads ids from stdin, one a line",
    )
    add_output(parser, ("table", "json"))


def run(args: argparse.Namespace) -> int:
    from batch_layer.erase import run_erase
    from tideline.runtime.installation import layer_session, lock_in_jvm
    from tideline.runtime.stopped import kafka_of

    home, settings = Home(args.home).require(), logged_settings(args, {"kafka.bootstrap": args.bootstrap})
    ids = [id for word in args.keys for id in _ids(word)]

    def session() -> Any:
        spark = layer_session("tideline-erase", home, settings)
        lock_in_jvm(spark, home, "batch")
        return spark

    home.prepare()
    with home.lock("up"), home.lock("batch"), home.lock("speed"), kafka_of(home, settings) as bootstrap:
        evidence = run_erase(home, bootstrap, args.source, ids, session)
    found = evidence.to_json()
    if args.output == "json":
        print_json(found)
    else:
        print_rows(("what", "result"), _lines(found), "table")
    if not evidence.ok:
        places = ", ".join(sorted({str(path.relative_to(home.path)) for path, _ in evidence.scan.found}))
        print(
            f"tideline: ids still stand in {places}. Name the columns of other records that hold them with further "
            "--key, or erase them from another --source",
            file=sys.stderr,
        )
    return EXIT_DONE if evidence.ok else EXIT_NO


def _ids(word: str) -> list[tuple[str, str]]:
    """The ids of one --key; no error repeats one."""
    column, equals, text = word.partition("=")
    if not equals or not column:
        raise UsageError("BAD_ARGUMENTS", "a --key has no column", "write --key COLUMN=ID, or --key COLUMN=-")
    if text != "-":
        return [(column, text)]
    return [(column, line) for line in sys.stdin.read().splitlines() if line]


def _lines(found: dict[str, Any]) -> list[dict[str, str]]:
    kafka, looked = found["kafka"], found["scan"]
    gone = kafka["retention_ends"] and f"until {kafka['retention_ends']}, at the latest {kafka['gone_by']}"
    standing = sum(kafka["records"].values())
    lines = {
        "ids": f"{found['ids']}, {found['entered']} of them new",
        "records erased": _counted(found["records"]),
        "dead letters among them": _counted(found["dead_letters"]),
        "version": f"{found['version']}; dropped: {', '.join(map(str, found['versions_dropped'])) or 'none'}",
        "files removed": str(found["files_removed"]),
        "store": f"{found['store_bytes']['before']} bytes before, {found['store_bytes']['after']} after",
        "log lines removed": str(found["log_lines_removed"]),
        "scan": f"{looked['files']} files, {looked['bytes']} bytes: {len(looked['found'])} found"
        + (f"; {looked['ids_too_short']} ids too short to look for" if looked["ids_too_short"] else ""),
        "still in Kafka": f"{_counted(kafka['records'])} of topic {kafka['topic']}"
        + (f", {gone or 'for good: the topic deletes nothing by age'}" if standing else ""),
    }
    return [{"what": name, "result": text} for name, text in lines.items()]


def _counted(by_partition: dict[str, int]) -> str:
    places = ", ".join(f"{partition}: {count}" for partition, count in by_partition.items())
    return f"{sum(by_partition.values())}" + (f" (by partition {places})" if places else "")
