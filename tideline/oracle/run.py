"""`verify`: recompute views from the log and compare every answer."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving_layer.query import Query
from serving_layer.reader import Reader
from serving_layer.status import bootstrap_of
from tideline.cut import Cut
from tideline.errors import NegativeAnswer
from tideline.ledger import Ledger
from tideline.oracle.check import Answered, check_view
from tideline.oracle.duck import Duck
from tideline.oracle.events import decode_events
from tideline.oracle.records import Log
from tideline.oracle.report import LogReport, Report, ViewReport
from tideline.oracle.spark import Spark
from tideline.runtime.home import Home
from tideline.source import SourceDefinition


def verify(
    home: str | os.PathLike[str] | Home = ".tideline",
    views: Sequence[str] | None = None,
    bootstrap: str | None = None,
) -> Report:
    """Verify views (default: all that are answerable) at the cut of one snapshot of serving's answers.

    Events may go on arriving meanwhile. `bootstrap` is Kafka's address, by default the one that the
    installation's processes use. Raises UsageError for an unknown view, LogUnreadableError, StoreError,
    KafkaFault.
    """
    began = time.monotonic()
    place = home if isinstance(home, Home) else Home(home)
    ledger, answers = _ask(place, views)
    sources: dict[str, tuple[SourceDefinition, list[Answered]]] = {}
    for answered in answers:
        source = SourceDefinition.from_json(ledger.source_of(answered.view.fingerprint))
        sources.setdefault(source.fingerprint, (source, []))[1].append(answered)
    reports: list[ViewReport] = []
    logs = []
    for source, group in sources.values():
        log, found = _verify_source(place, ledger, source, group, bootstrap or bootstrap_of(place))
        logs.append(log)
        reports += found
    order = {answered.view.name: index for index, answered in enumerate(answers)}
    reports.sort(key=lambda report: order[report.view])
    return Report(tuple(reports), tuple(logs), time.monotonic() - began)


def _ask(home: Home, views: Sequence[str] | None) -> tuple[Ledger, list[Answered]]:
    """Serving's answers to whole-view queries on one snapshot, and a ledger that knows their definitions."""
    with Reader(home) as reader:
        while True:
            before = reader.ledger()
            names = list(dict.fromkeys(views)) if views else sorted(before.live)
            if not names:
                raise NegativeAnswer(
                    "NOTHING_TO_VERIFY", "no view is answerable yet", "apply a catalog with `tideline apply`"
                )
            results = reader.query_many([Query(name) for name in names])
            answers = [Answered(result.plan.view, result.rows, result.proof) for result in results]
            if all(before.live.get(a.view.name) == a.view.fingerprint for a in answers):
                return before, answers


def _verify_source(
    home: Home, ledger: Ledger, source: SourceDefinition, group: Sequence[Answered], bootstrap: str | None
) -> tuple[LogReport, list[ViewReport]]:
    began = time.monotonic()
    topic, cut = source.topic, _cut_of(group)
    if bootstrap:
        from tideline.runtime.topics import topic_ids

        ledger.check_topics(topic_ids(bootstrap, [topic]))
    begin, archived = ledger.origin.restrict([topic]), ledger.archived.restrict([topic])
    log = Log(topic, begin, cut, archived, home.master / source.name, bootstrap)
    events = decode_events(source, log)
    report = LogReport(
        source.name,
        cut.to_json(),
        events.records,
        events.events,
        events.duplicates,
        events.dead,
        log.from_kafka,
        log.from_master,
        log.twice,
        time.monotonic() - began,
        tuple(log.faults),
    )
    home.tmp.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="verify-", dir=home.tmp) as folder:
        duck, spark = Duck(source, events.table), Spark(events.table, Path(folder))
        try:
            return report, [check_view(answered, events, duck, spark) for answered in group]
        finally:
            spark.close()
            duck.close()


def _cut_of(group: Sequence[Answered]) -> Cut:
    """The one cut of answers that were given on one snapshot."""
    cuts: list[Mapping[str, Any]] = [answered.proof["cut"] for answered in group]
    return Cut.from_json(cuts[0])
