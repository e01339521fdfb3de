"""Reading an installation's merged views, in any process, with no JVM."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from serving_layer.describe import describe_view
from serving_layer.diff import Diff, diff_sides
from serving_layer.find import NotReadyError, check_topics, find_view
from serving_layer.kafka import KafkaProbe
from serving_layer.metrics import metrics_text
from serving_layer.plan import Patience, Plan, patience, plan_query
from serving_layer.prepared import Prepared, PreparedQueries
from serving_layer.proof import Proof
from serving_layer.query import QUERY_FIELDS, Query, whole
from serving_layer.result import Result
from serving_layer.sides import find_side
from serving_layer.status import freshness, quarantined, read_status, views_waiting
from tideline.cut import EMPTY_CUT, Cut
from tideline.definition import ViewDefinition
from tideline.errors import UsageError
from tideline.ledger import Ledger
from tideline.runtime.home import Home
from tideline.stores.base import Snapshot, Store
from tideline.stores.lmdb import LmdbStore

if TYPE_CHECKING:
    from serving_layer.sql.tables import TableCache, ViewTables

_POLL = 0.02  # seconds between two looks at the ledger
_FEW_ROWS = 2_000
_GLANCE = 0.1  # seconds between two looks at the speed layer's note
_PYTHON_FIELDS = {"from": "start", "to": "end"}
Narrow = Callable[[Query, ViewDefinition], Query]
"""Cuts a query down to what somebody may see of the view as it is defined where it is answered."""
GET_OPTIONS = [_PYTHON_FIELDS.get(name, name) for name in QUERY_FIELDS if name != "view"]


class Reader:
    """Answers queries from one store; safe to use from several threads. Use it with `with`.

    Raises StoreError where `home` holds no store. `store` takes one that is open already, and leaves it open. Queries
    that are asked together may have `most_rows` in all.
    """

    def __init__(
        self,
        home: str | os.PathLike[str] | Home = ".tideline",
        *,
        store: Store | None = None,
        most_rows: int | None = None,
    ) -> None:
        self.home = home if isinstance(home, Home) else Home(home)
        self._own: LmdbStore | None = None
        if store is None:
            store = self._own = LmdbStore.open(self.home.path, readonly=True)
        self._store = store
        self._most_rows = most_rows
        self._definitions: dict[str, tuple[Mapping[str, Any], ViewDefinition]] = {}
        self._lock = threading.Lock()
        self._prepared: PreparedQueries | None = None
        self._note: tuple[float, Mapping[str, Any]] = -_GLANCE, {}
        self._kafka = KafkaProbe(self.home)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the use of the store, if the reader opened it."""
        own, self._own = self._own, None
        if own is not None:
            own.close()

    def ledger(self) -> Ledger:
        """The ledger as it is now."""
        with self._store.snapshot() as snapshot:
            return snapshot.ledger

    def views(self) -> list[str]:
        """The names of the views that can be asked, sorted."""
        return sorted(self.ledger().live)

    def view(self, name: str) -> ViewReader:
        """One view. Raises UsageError UNKNOWN_VIEW, NotReadyError VIEW_NOT_LIVE."""
        find_view(self.ledger(), name)
        return ViewReader(self, name)

    def definition(self, view: str) -> ViewDefinition:
        """A view's definition, as it is answered now. Raises UsageError UNKNOWN_VIEW, NotReadyError VIEW_NOT_LIVE."""
        ledger = self.ledger()
        return self._definition(ledger, find_view(ledger, view))

    def describe(self, view: str) -> dict[str, Any]:
        """A JSON-able description of a view: its key, bucket, measures with their bounds, answers."""
        ledger = self.ledger()
        return describe_view(self._definition(ledger, find_view(ledger, view)), ledger)

    def describe_all(self) -> list[dict[str, Any]]:
        """The descriptions of all views that can be asked, of one ledger, by name."""
        ledger = self.ledger()
        return [describe_view(self._definition(ledger, ledger.live[name]), ledger) for name in sorted(ledger.live)]

    def query(self, query: Query, narrow: Narrow | None = None) -> Result:
        """The answer to one query. Raises UsageError, NotReadyError, MissingSegmentError."""
        return self.query_many([query], narrow)[0]

    def is_quick(self, queries: Sequence[Query]) -> bool:
        """Whether nothing is waited for and a few stored rows are read, as far as that is known.

        It takes less time than a thread of Python's has before another gets its turn (5 ms), so that one gains nothing.
        """
        prepared, rows = self._prepared, 0
        for query in queries:
            found = prepared.rows(query) if prepared is not None and not query.waits else None
            if found is None:
                return False
            rows += found
        return rows <= _FEW_ROWS

    def proof(self, query: Query, narrow: Narrow | None = None) -> Proof:
        """What proves the answer that a query would get now. Raises UsageError, NotReadyError, MissingSegmentError."""
        with self._store.snapshot() as snapshot:
            return self._prepare(snapshot.ledger, self._narrowed(snapshot.ledger, query, narrow)).proof

    def query_many(self, queries: Sequence[Query], narrow: Narrow | None = None) -> list[Result]:
        """The answers to several queries on one snapshot: they agree with each other (invariant 6)."""
        waits, wanted, seconds = self.patience(queries)

        def answers(snapshot: Snapshot) -> list[Result]:
            found: list[Result] = []
            for query, wait in zip(queries, waits, strict=True):
                enough = None if self._most_rows is None else self._most_rows + 1 - sum(map(len, found))
                found.append(self._answer(snapshot, self._narrowed(snapshot.ledger, query, narrow), wait.cut, enough))
                if enough is not None and len(found[-1]) >= enough:
                    raise too_many_rows(self._most_rows)
            return found

        if wanted is EMPTY_CUT:
            with self._store.snapshot() as snapshot:
                return answers(snapshot)
        deadline = time.monotonic() + seconds

        def check(ledger: Ledger) -> None:
            for query, wait in zip(queries, waits, strict=True):
                self._refuse_to_wait(ledger, self._narrowed(ledger, query, narrow), wait.cut)

        with self._reaching(wanted, deadline, check) as snapshot:
            return answers(snapshot)

    def patience(self, queries: Sequence[Query]) -> tuple[list[Patience], Cut, float]:
        """What each of several queries waits for, the cut that all of them do, and for how many seconds.

        Raises UsageError, NotReadyError, and KafkaFault where one may not be stale.
        """
        waits, wanted = [self._patience(query) for query in queries], EMPTY_CUT
        for wait in waits:
            wanted = wanted.advance(wait.cut) if wait.cut else wanted
        return waits, wanted, max((wait.seconds for wait in waits if wait.cut), default=0.0)

    def tables(
        self, names: Sequence[str], cache: TableCache, parts: Mapping[str, Query], states: bool = False
    ) -> dict[str, ViewTables]:
        """Views by the column, all of one snapshot: whole, with their `states`, or what one of `parts` asks of it.

        Raises UsageError, NotReadyError, MissingSegmentError.
        """
        with self._store.snapshot() as snapshot:
            found = {}
            for name in names:
                if name in parts:
                    found[name] = cache.part(self._answer(snapshot, parts[name], None, None))
                else:
                    plan = self._plan(snapshot.ledger, Query(name))
                    found[name] = cache.tables(snapshot, plan, self._freshness(), states)
            return found

    def diff(self, left: str, right: str | None = None, limit: int = 20) -> Diff:
        """The answers of two definitions key by key at one cut; see `sides.find_side` for how they are written.

        `right` is the view as it is answered now unless given; of the keys that differ the first `limit` are kept.
        Raises UsageError, NotReadyError, MissingSegmentError.
        """
        with self._store.snapshot() as snapshot:
            ledger, other = snapshot.ledger, right or left.partition("@")[0]
            return diff_sides(snapshot, find_side(ledger, left), find_side(ledger, other), limit)

    def status(self, *, timeout: float = 2.0) -> dict[str, Any]:
        """The installation's state, JSON-able; waits about `timeout` seconds for Kafka. See `read_status`."""
        ledger = self.ledger()
        held = self._kafka.look(tuple(sorted(ledger.topic_ids)), timeout)
        return {**read_status(self.home, ledger, held), "store": dict(self._store.usage())}

    def readiness(self) -> dict[str, Any]:
        """Whether every view that was applied can be asked, and those that wait for a batch run; JSON-able.

        A changed view waits too, and is answered as it was meanwhile. One in quarantine is nothing to wait for.
        """
        ledger = self.ledger()
        failed = [str(entry["view"]) for entry in quarantined(ledger)]
        waiting = [name for name in views_waiting(ledger) if name not in failed]
        ready = all(name in ledger.live for name in waiting)
        return {"ready": ready, "views": sorted(ledger.live), "waiting": waiting, "quarantined": failed}

    def metrics(self, *, timeout: float = 1.0) -> str:
        """The installation's state in Prometheus' text format; waits `timeout` seconds for Kafka at most."""
        ledger = self.ledger()
        usage = self._store.usage()
        return metrics_text(self.home, ledger, self._kafka.glance(tuple(sorted(ledger.topic_ids)), timeout), usage)

    @contextmanager
    def _reaching(self, wanted: Cut, deadline: float, check: Callable[[Ledger], object]) -> Iterator[Snapshot]:
        """A snapshot whose committed cut covers `wanted`. What `check` refuses is not waited for.

        Raises NotReadyError AT_LEAST_TIMEOUT at the deadline.
        """
        began = time.monotonic()
        pause = threading.Event()
        seen: Ledger | None = None
        while True:
            with self._store.snapshot() as snapshot:
                before, seen = seen, snapshot.ledger
                ledger = seen
                if ledger is not before and ledger.committed.covers(wanted):  # of a long cut that takes its time
                    yield snapshot
                    return
            if before is None:
                check(ledger)
                check_topics(ledger, wanted)
            now = time.monotonic()
            if now >= deadline:
                raise NotReadyError(
                    "AT_LEAST_TIMEOUT",
                    seconds=round(now - began, 3),
                    wanted=str(wanted),
                    reached=str(ledger.committed.restrict(wanted.topics())),
                )
            pause.wait(min(_POLL, deadline - now))

    def _narrowed(self, ledger: Ledger, query: Query, narrow: Narrow | None) -> Query:
        if narrow is None:
            return query
        version = whole("version", query.version, 0)
        return narrow(query, self._definition(ledger, find_view(ledger, query.view, version)))

    def _plan(self, ledger: Ledger, query: Query) -> Plan:
        """The query's plan at a ledger."""
        version = whole("version", query.version, 0)
        return plan_query(query, self._definition(ledger, find_view(ledger, query.view, version)))

    def _patience(self, query: Query) -> Patience:
        """What the query waits for. Raises UsageError, NotReadyError, and KafkaFault where it may not be stale."""
        found = patience(query)
        if found.staleness is None:
            return found
        ledger = self.ledger()
        topic = ledger.topic_of(find_view(ledger, query.view, whole("version", query.version, 0)))
        held = self._kafka.cut_at(topic, time.time() - found.staleness, found.seconds)
        return replace(found, cut=held if found.cut is None else found.cut.advance(held))

    def _refuse_to_wait(self, ledger: Ledger, query: Query, wanted: Cut | None) -> None:
        """Raises what is wrong with a query that waits: an older version never grows."""
        plan = self._plan(ledger, query)
        if plan.version is None or wanted is None:
            return
        cut = ledger.find_version(plan.version).cut
        if not cut.covers(wanted):
            raise NotReadyError(
                "AT_LEAST_TIMEOUT",
                hint="an older version does not grow: leave out version, or what it is to cover",
                seconds=0,
                wanted=str(wanted),
                reached=str(cut.restrict(wanted.topics())),
            )

    def _answer(self, snapshot: Snapshot, query: Query, wanted: Cut | None, most: int | None) -> Result:
        if wanted is not None and query.version is not None:
            self._refuse_to_wait(snapshot.ledger, query, wanted)
        return self._prepare(snapshot.ledger, query).answer(snapshot, query, self._freshness(), most)

    def _prepare(self, ledger: Ledger, query: Query) -> Prepared:
        prepared = self._prepared
        if prepared is None or prepared.ledger is not ledger:
            prepared = self._prepared = PreparedQueries(ledger, prepared)
        return prepared.get(query, self._plan)

    def _freshness(self) -> float | None:
        """Seconds since the last commit, by a note of the speed layer that was read a moment ago."""
        now = time.monotonic()
        at, note = self._note
        if now - at > _GLANCE:
            note = self.home.read_status("speed") or {}
            self._note = now, note
        return freshness(note)

    def _definition(self, ledger: Ledger, fingerprint: str) -> ViewDefinition:
        raw = ledger.definition(fingerprint)
        with self._lock:
            known = self._definitions.get(fingerprint)
            if known is None or known[0] != raw:
                known = self._definitions[fingerprint] = (raw, ViewDefinition.from_json(raw))
            return known[1]


def too_many_rows(limit: int | None) -> UsageError:
    """What is raised for an answer of more rows than may be had at once."""
    return UsageError(
        "TOO_MANY_ROWS",
        f"the answer has more than {limit} rows",
        "filter by key columns, group, or give a limit and go on by the cursor",
        limit=limit,
    )


class ViewReader:
    """One view of a reader."""

    def __init__(self, reader: Reader, name: str) -> None:
        self._reader = reader
        self.name = name

    def get(self, **options: Any) -> Result:
        """The answer to a query: options are `Query`'s fields, every other name a key column to filter by.

        `get(country="France", window=days(1))`. A key column named like a field goes into `key={...}`.
        """
        fields = {name: value for name, value in options.items() if name in GET_OPTIONS}
        key = {
            **fields.pop("key", {}),
            **{name: value for name, value in options.items() if name not in GET_OPTIONS},
        }
        return self._reader.query(Query(self.name, key, **fields))

    def describe(self) -> dict[str, Any]:
        """See `Reader.describe`."""
        return self._reader.describe(self.name)
