"""`verify`: recompute views from the log and compare every answer."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from serving_layer.query import Query
from serving_layer.reader import Reader
from serving_layer.status import bootstrap_of
from tideline.cut import EMPTY_CUT, Cut
from tideline.errors import NegativeAnswer, UsageError
from tideline.held import read_held
from tideline.ledger import Ledger
from tideline.oracle.check import Answered, check_view
from tideline.oracle.duck import Duck
from tideline.oracle.events import Events, decode_events
from tideline.oracle.records import Log
from tideline.oracle.report import LogReport, Report, ViewReport
from tideline.oracle.spark import Spark
from tideline.runtime.home import Home
from tideline.source import SourceDefinition


def verify(
    home: str | os.PathLike[str] | Home = ".tideline",
    views: Sequence[str] | None = None,
    bootstrap: str | None = None,
    versions: bool = False,
) -> Report:
    """Verify views (default: all that are answerable) at the cut of one snapshot of serving's answers.

    With `versions` also what each retained version answers, at its own cut.

    Events may go on arriving meanwhile. `bootstrap` is Kafka's address, by default the one that the
    installation's processes use. Raises UsageError for an unknown view, LogUnreadableError, StoreError,
    KafkaFault.
    """
    began = time.monotonic()
    place = home if isinstance(home, Home) else Home(home)
    ledger, answers = _ask(place, views, versions)
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
    order = {answered.name: index for index, answered in enumerate(answers)}
    reports.sort(key=lambda report: order[report.view])
    return Report(tuple(reports), tuple(logs), time.monotonic() - began)


def _ask(home: Home, views: Sequence[str] | None, versions: bool) -> tuple[Ledger, list[Answered]]:
    """Serving's answers to whole-view queries on one snapshot, and a ledger that knows their definitions."""
    with Reader(home) as reader:
        while True:
            before = reader.ledger()
            names = list(dict.fromkeys(views)) if views else sorted(before.live)
            if not names:
                raise NegativeAnswer(
                    "NOTHING_TO_VERIFY", "no view is answerable yet", "apply a catalog with `tideline apply`"
                )
            wanted = [(Query(name), before.live.get(name)) for name in names]
            for version in before.versions if versions else ():
                wanted += [(Query(n, version=version.id), version.live[n]) for n in names if n in version.live]
            try:
                results = reader.query_many([query for query, _ in wanted])
            except UsageError as error:
                if error.condition == "UNKNOWN_VERSION":  # a later one has been published since
                    continue
                raise
            kept = before.version.kept
            answers = [Answered(r.plan.view, r.rows, r.proof, kept.get(r.plan.view.fingerprint)) for r in results]
            if [answered.view.fingerprint for answered in answers] == [definition for _, definition in wanted]:
                return before, answers


def _verify_source(
    home: Home, ledger: Ledger, source: SourceDefinition, group: Sequence[Answered], bootstrap: str | None
) -> tuple[LogReport, list[ViewReport]]:
    began = time.monotonic()
    topic, cut = source.topic, EMPTY_CUT
    for answered in group:
        cut = cut.advance(answered.cut)
    begin = ledger.origin.restrict([topic])
    # The master's own log is the truth of what it holds.
    archived = read_held(home.master / source.name).part(topic, ledger.archived)
    log = Log(topic, begin, cut, archived, home.master / source.name, bootstrap)
    _check_topic(ledger, topic, bootstrap)
    events = decode_events(source, log)
    _check_topic(ledger, topic, bootstrap)
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
    return report, [*_check(home, ledger, source, group, events, cut)]


def _check(
    home: Home, ledger: Ledger, source: SourceDefinition, group: Sequence[Answered], events: Events, cut: Cut
) -> Iterator[ViewReport]:
    """The views of a source, those that are answered at one cut together; the events are those before `cut`."""
    for end in dict.fromkeys(answered.cut for answered in group):
        part = events if end == cut else events.before(end, source.topic)
        with tempfile.TemporaryDirectory(prefix="verify-", dir=home.tmp) as folder:
            duck, spark = Duck(source, part.table), Spark(part.table, Path(folder))
            try:
                for answered in group:
                    if answered.cut == end:
                        # Serving counts by the declaration in force, which may not be that of the view.
                        counted = end == cut and answered.view.fingerprint not in ledger.former_sources
                        yield check_view(answered, part, duck, spark, counted)
            finally:
                spark.close()
                duck.close()


def _check_topic(ledger: Ledger, topic: str, bootstrap: str | None) -> None:
    if bootstrap:
        from tideline.runtime.topics import topic_ids

        ledger.check_topics(topic_ids(bootstrap, [topic]))
