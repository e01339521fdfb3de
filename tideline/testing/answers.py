"""What a catalog's views answer over given events, by the code that the layers run."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from tideline.catalog import load_catalog
from tideline.collect import by_view, collect
from tideline.cut import Cut
from tideline.errors import UsageError
from tideline.ledger import Ledger, LogStats
from tideline.merge import merge_into
from tideline.plans import Folded
from tideline.runtime.home import Home
from tideline.runtime.installation import layer_session
from tideline.settings import Settings
from tideline.source import SourceDefinition, check_known
from tideline.spark.fold import Fold
from tideline.spark.resolve import Resolved, resolve_catalog
from tideline.stores.memory import MemoryStore
from tideline.testing.laws import decoded_events, file_events

if TYPE_CHECKING:
    from serving_layer.reader import Reader


@contextlib.contextmanager
def answers(
    catalog: str | Path, events: Any, *, source: str | None = None, row_id: str | None = None, spark: Any = None
) -> Iterator[Reader]:
    """A reader over the views of a catalog file after exactly these events, each of which counts whenever it happened.

        with answers("catalog.py", [{"country": "France", "amount": "9.50"}]) as t:
            assert t.view("revenue").get(group_by=["country"]).rows == [...]

    `events` are dicts, which become JSON, or a file as `tideline produce` takes it, whose rows get their number as
    `row_id`; `source` is theirs, where the catalog has several. Repeats of an id count once. Starts a Spark session
    unless it is given one. Raises UsageError.
    """
    from serving_layer.reader import Reader

    with tempfile.TemporaryDirectory(prefix="tideline-answers-") as folder:
        home = Home(folder).prepare()
        session = spark or layer_session("tideline-answers", home, Settings(), brief=True)
        try:
            resolved = resolve_catalog(session, load_catalog(catalog))
            of = _source(resolved, source)
            values = (
                file_events(of, events, row_id)
                if isinstance(events, (str, Path))
                else [_encoded(one) for one in events]
            )
            store = MemoryStore(Ledger.create("answers"))
            _commit(store, resolved, of, _folded(session, resolved, of, values))
        finally:
            if spark is None:
                session.stop()
        with Reader(home, store=store) as reader:
            yield reader


def _source(resolved: Resolved, name: str | None) -> SourceDefinition:
    if name is None and len(resolved.sources) > 1:
        raise UsageError("WHICH_SOURCE", "the catalog has several sources", f"name one: {sorted(resolved.sources)}")
    if name is not None:
        check_known(name, resolved.sources)
    return next(found for found in resolved.sources.values() if name in (None, found.name))


def _encoded(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, default=str).encode()


def _folded(spark: SparkSession, resolved: Resolved, source: SourceDefinition, values: Sequence[bytes]) -> Folded:
    fold = Fold(source, [view for view in resolved.views.values() if view.source == source.name])
    events = _repeats_marked(decoded_events(spark, source, values), source)
    return collect(fold, by_view(fold.aggregate(events).toArrow()))


def _repeats_marked(events: DataFrame, source: SourceDefinition) -> DataFrame:
    if source.event_id is None:
        return events
    same = [F.col(source.event_id), *([F.col(source.operation)] if source.operation else [])]
    place = F.row_number().over(Window.partitionBy(*same).orderBy("_hash"))
    counts = F.col("_reason").isNull() & F.col(source.event_id).isNotNull()
    return events.withColumn("_duplicate", F.when(counts, place > 1).otherwise(False))


def _commit(store: MemoryStore, resolved: Resolved, source: SourceDefinition, folded: Folded) -> None:
    """All of it as one commit of the speed layer, behind an empty version."""
    with store.write() as txn:
        ledger = _applied(txn.ledger, resolved)
        ledger, batch = ledger.take_fence("batch")
        ledger, speed = ledger.take_fence("speed")
        ledger = ledger.seal(batch)
        nothing: dict[str, tuple[int, ...]] = dict.fromkeys(ledger.wanted.values(), ())
        txn.put_ledger(ledger.publish(batch, ledger.sealed, nothing, (), {}))
    with store.write() as txn:
        ledger = txn.ledger
        log = {source.topic: dict(folded.log) or {0: LogStats()}}
        end = Cut({source.topic: {partition: stats.records for partition, stats in folded.log.items()}})
        ledger = ledger.commit(
            speed, ledger.committed, ledger.committed.advance(end), ledger.open.definitions, log, folded.rejects
        )
        for view in resolved.views.values():
            merge_into(txn, ledger.open.space(view.fingerprint), view, folded.rows.get(view.fingerprint, ()))
        txn.put_ledger(ledger)


def _applied(ledger: Ledger, resolved: Resolved) -> Ledger:
    topics = [source.topic for source in resolved.sources.values()]
    return ledger.apply(
        {name: source.to_json() for name, source in resolved.sources.items()},
        {view.fingerprint: view.to_json() for view in resolved.views.values()},
        {name: view.fingerprint for name, view in resolved.views.items()},
        dict.fromkeys(topics, "here"),
        Cut({topic: dict.fromkeys(range(3), 0) for topic in topics}),
    )
