"""`tideline status`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from tideline.cli.options import Commands, add_command, add_output
from tideline.cli.output import print_json
from tideline.cut import Cut


def register(commands: Commands) -> None:
    parser = add_command(
        commands, "status", "cuts, lag, retention margin, generations, last batch run, dead letters", run
    )
    parser.add_argument("--timeout", type=float, default=2.0, metavar="SECONDS", help="how long to wait for Kafka")
    add_output(parser, ("table", "json"))


def run(args: argparse.Namespace) -> None:
    import tideline

    with tideline.open(args.home) as reader:
        status = reader.status(timeout=args.timeout)
    if args.output == "json":
        print_json(status)
        return
    for name, value in _lines(status):
        print(f"{name:<13} {value}")


def _lines(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    kafka, margin = status["kafka"], status["retention_margin"]
    yield "ready", "yes" if status["ready"] else f"no ({', '.join(_not_ready(status))})"
    yield (
        "kafka",
        kafka["bootstrap"] if kafka["error"] is None else f"{kafka['bootstrap'] or 'unknown'}: {kafka['error']}",
    )
    yield "api", status["api"] or "not running"
    for name in ("committed", "archived", "published"):
        yield name, str(Cut.from_json(status[name])) or "nothing"
    yield "lag", "unknown" if status["lag_events"] is None else f"{status['lag_events']} events"
    yield "margin", "unknown" if margin is None else _margin(margin)
    for generation in status["generations"]:
        state = "open" if generation["open"] else "sealed"
        yield f"generation {generation['id']}", f"{state}, {generation['events']} events"
    yield (
        "batch version",
        f"{status['batch_version']}, {status['unpublished_events']} offsets not published yet",
    )
    yield "last batch", _last_batch(status["last_batch"])
    yield "store", _store(status["store"])
    yield "views", ", ".join(status["views"]["live"]) or "none"
    if status["views"]["waiting"]:
        yield "waiting", f"{', '.join(status['views']['waiting'])}: answerable after the next batch run"
    for failed in status["views"]["quarantined"]:
        yield "quarantined", f"{failed['view']}, in the {failed['layer']} layer: {failed['reason']}"
    for source, events in status["events"].items():
        dead = ", ".join(f"{count} {reason}" for reason, count in status["dead_letters"][source].items())
        yield (
            source,
            f"{events} events, {status['duplicates'][source]} duplicates, dead letters: {dead or 'none'}",
        )


def _not_ready(status: Mapping[str, Any]) -> list[str]:
    layers = [layer for layer in ("speed", "serve") if not status["layers"][layer]["ready"]]
    return layers + (["kafka"] if status["kafka"]["error"] else [])


def _margin(margin: Mapping[str, Any]) -> str:
    place = f"{margin['topic']} partition {margin['partition']}"
    held = f"Kafka holds {margin['offsets']} archived offsets of {place}"
    return held + (", and has deleted none" if margin["deleted"] <= 0 else f", and has deleted {margin['deleted']}")


def _store(store: Mapping[str, Any]) -> str:
    held = f", process {store['pid']} holds a snapshot of {store['behind']} transactions ago" if store["behind"] else ""
    return f"{store['bytes'] / 1e6:.1f} MB{held}"


def _last_batch(run: Mapping[str, Any] | None) -> str:
    if run is None:
        return "none yet"
    steps = ", ".join(f"{step['name']} {_seconds(step['seconds'])}" for step in run.get("steps") or ())
    total = "" if run.get("seconds") is None else f" in {_seconds(run['seconds'])}"
    return f"{run.get('mode', 'batch')}{total}, {run.get('rows', 0)} rows" + (f" ({steps})" if steps else "")


def _seconds(spent: Any) -> str:
    return f"{spent:.2f} s" if isinstance(spent, (int, float)) else str(spent)
