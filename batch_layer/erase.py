"""Erasing people: a changed declaration of their source, the batch run that follows from it, and clearing what was.

An erased id is a keyed hash in the source's entry in the ledger, so it is part of the source's fingerprint: the next
batch run decodes the master anew, without the records of that id, and builds every view of the source anew. The layers
must be down. Every step can be run again, and goes on where it was cut off.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pyspark.sql import SparkSession

from batch_layer.engine import SparkEngine
from batch_layer.evidence import Evidence, by_partition, dead_letters, erased, standing
from batch_layer.purge import purge
from batch_layer.run import BatchLayer
from tideline.apply import redefined, register
from tideline.definition import ViewDefinition
from tideline.erased import KEY_COLUMN, Erased
from tideline.errors import UsageError
from tideline.ledger import Ledger
from tideline.points import reach
from tideline.runtime.home import Home
from tideline.runtime.installation import open_applied
from tideline.runtime.stopped import NoSpeedLayer
from tideline.scan import Needle, drop_lines, holds, scan
from tideline.source import SourceDefinition, check_known
from tideline.stores import Store, collect_garbage
from tideline.stores.lmdb_rewrite import rewrite, unused

Id = tuple[str, str]
"""A column, and the text of an id in it."""


def check_ids(ledger: Ledger, source: str, ids: Iterable[Id]) -> None:
    """Raises UsageError where the source or a column is unknown, or a column holds no ids; never with an id."""
    check_known(source, ledger.sources)
    columns = {column.name: column.type for column in SourceDefinition.from_json(ledger.sources[source]).schema}
    fit = [KEY_COLUMN, *(name for name, kind in columns.items() if kind.is_integer or kind.name == "string")]
    earlier = SourceDefinition.from_json(ledger.sources[source]).erased
    fit = list(dict.fromkeys([*fit, *(name for name, _ in (earlier.hashes if earlier else ()))]))
    for number, (column, text) in enumerate(ids, 1):
        if column not in fit:
            raise UsageError(
                "UNKNOWN_COLUMN",
                f"source {source} has no column {column} that could hold an id",
                f"columns of text or whole numbers: {', '.join(fit)}",
                source=source,
                column=column,
                known=fit,
            )
        kind = columns.get(column)
        if not text or (kind is not None and kind.is_integer and Needle(text.removeprefix("-")).number is None):
            raise UsageError(
                "BAD_ID", f"id {number} is not a value of {column}", "write it as the column holds it", column=column
            )


def erase(home: Home, spark: SparkSession, bootstrap: str, source: str, ids: Sequence[Id]) -> Evidence:
    """Erases ids of a source from master, views, states and versions; the caller holds the home's locks.

    What scratch files and logs hold is not looked at yet: see `clear`. Raises UsageError, StoreError, KafkaFault,
    ProtocolError.
    """
    with open_applied(home) as store:
        with store.snapshot() as snapshot:
            before = snapshot.ledger
        check_ids(before, source, ids)
        dead_before = dead_letters(home.master / source)
        reach("erase.register")
        entered = _enter(store, source, ids)
        reach("erase.registered")
        engine = SparkEngine(spark, store, home, bootstrap)
        BatchLayer(store, NoSpeedLayer(), engine, keep_versions=1).run()
        tables = _segment_files(home)
        ledger = _forget(store)
        engine.remove_dead(ledger)
        reach("erase.published")
        removed = len(tables - _segment_files(home)) + purge(home.master / source)
    reach("erase.purged")
    sizes = rewrite(home.path)
    reach("erase.stored")
    dead = dead_letters(home.master / source)
    fresh = erased(dead) - erased(dead_before)
    return Evidence(
        source,
        len(ids),
        entered,
        by_partition(fresh),
        by_partition(fresh & dead_before.keys()),
        ledger.version.id,
        [version.id for version in before.versions if version.id != ledger.version.id],
        removed,
        sizes,
        standing(bootstrap, str(ledger.sources[source]["topic"]), dead),
    )


def clear(home: Home, ids: Sequence[Id], evidence: Evidence) -> Evidence:
    """Removes scratch files, stores that were moved away and the lines of logs that hold an id; then looks into every
    file outside Kafka.

    No process of the home may run any more, nor a Spark session of this one.
    """
    texts = [text for _, text in ids]
    patterns = [pattern for text in texts for pattern in Needle(text).patterns]
    with unused(home.path):
        for path in home.tmp.iterdir() if home.tmp.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in home.path.glob("store.damaged*"):  # that a rebuild moved away
            shutil.rmtree(path)
        lines = 0
        for path in [path for path in home.run.rglob("*") if path.is_file() and holds(path, patterns)]:
            lines += drop_lines(path, patterns)
        reach("erase.cleared")
        short = sum(not Needle(text).patterns for text in texts)
        return replace(evidence, lines_removed=lines, too_short=short, scan=scan(home, texts))


def _enter(store: Store, name: str, ids: Iterable[Id]) -> int:
    """Enters the hashes into the source and its views into the ledger under their new fingerprints; how many ids."""
    with store.write() as txn:
        ledger = txn.ledger
        source = SourceDefinition.from_json(ledger.sources[name])
        known = source.erased or Erased.none_yet()
        more = known.adding(ids)
        if more == source.erased:
            return 0
        changed = replace(source, erased=more)
        views = [ViewDefinition.from_json(ledger.definition(wanted)) for wanted in ledger.wanted.values()]
        mine = redefined({view.name: view for view in views if view.source == name}, {name: changed})
        register(
            txn,
            {**ledger.sources, name: changed.to_json()},
            [mine.get(view.name, view) for view in views],
            ledger.topic_ids,
            ledger.origin,
        )
        return len(more.hashes) - len(known.hashes)


def _forget(store: Store) -> Ledger:
    """Drops older versions and definitions, which a speed layer would go on folding until the next seal."""
    with store.write() as txn:
        ledger, token = txn.ledger.take_fence("batch")
        txn.put_ledger(ledger.seal(token).expire(token, 1))
        collect_garbage(txn)
        return txn.ledger


def _segment_files(home: Home) -> set[Path]:
    return {path for path in home.batch.rglob("*") if path.is_file()}


def run_erase(
    home: Home, bootstrap: str, source: str, ids: Sequence[Id], session: Callable[[], SparkSession]
) -> Evidence:
    """Erases with a Spark session of its own, which ends before scratch files are cleared."""
    with open_applied(home) as store, store.snapshot() as snapshot:
        check_ids(snapshot.ledger, source, ids)
    with unused(home.path):
        pass
    spark = session()
    try:
        evidence = erase(home, spark, bootstrap, source, ids)
    finally:
        spark.stop()
    return clear(home, ids, evidence)
