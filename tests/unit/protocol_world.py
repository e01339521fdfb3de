"""The whole installation: both layers around a real ledger and store, and what must hold after every step.

Every method is one step; the state machine puts them in any order. A step that the protocol must refuse says
so where it is made, and `check` compares every answer with the naive fold. Whatever does not hold raises
`ProtocolBroken`.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from protocol_batch import BatchSteps
from protocol_log import VIEWS, ModelView, events, statistics
from protocol_site import ProtocolBroken, require
from protocol_speed import SpeedSteps

from tideline.cut import Cut
from tideline.errors import ProtocolError
from tideline.ledger import Ledger
from tideline.merge import get_row, scan_rows
from tideline.stores.memory import MemoryStore


class World(SpeedSteps, BatchSteps):
    """Both layers, the catalog, the power supply, and the judge."""

    _known: tuple[dict[str, Any], Ledger] | None = None

    def apply(self, fingerprints: list[str]) -> None:
        views = [VIEWS[fingerprint] for fingerprint in fingerprints]
        topics = {view.topic for view in views} | set(self.ledger().topic_ids)
        sources = {topic: {"name": topic, "topic": topic} for topic in topics}
        definitions = {view.fingerprint: view.definition() for view in views}
        wanted = {view.name: view.fingerprint for view in views}
        origin = Cut({"t": {0: 0, 1: 0}, "u": {0: 5}}).restrict(topics)
        self.change(lambda old: old.apply(sources, definitions, wanted, {t: f"id of {t}" for t in topics}, origin))

    def lose_power(self, commits: int, processes: bool) -> None:
        """The last commits of the speed layer were not on disk; the processes may go with them."""
        if self.unsynced and isinstance(self.store, MemoryStore):
            self.store.state = self.unsynced[-min(commits, len(self.unsynced))]
            self.unsynced = []
            self.dirty = True
            self.plan = None
        for writer in self.writers if processes else ():
            writer.batch = None

    def check(self) -> None:
        """Every live view and retained version against the naive fold, the ledger against itself."""
        if not self.dirty:
            return
        self.dirty = False
        with self.store.snapshot() as snapshot:
            ledger = snapshot.ledger
            if self.strict:
                self._check_ledger(ledger)
            for name, fingerprint in ledger.live.items():
                require(VIEWS[fingerprint].name == name, "a name answers for its own view", name, fingerprint)
                self._check_view(snapshot, fingerprint, ledger.committed, None)
            for version in ledger.versions:
                for fingerprint in version.views:
                    self._check_view(snapshot, fingerprint, version.cut, version.id)
            require(ledger.spaces() <= set(snapshot.spaces()), "every space that the ledger names is there")

    def _check_view(self, snapshot: Any, fingerprint: str, cut: Cut, version: int | None) -> None:
        view, ledger = VIEWS[fingerprint], snapshot.ledger
        at = ledger.version if version is None else ledger.find_version(version)
        floor = at.floors.get(fingerprint)
        expected = {
            place: answer
            for place, answer in self.log.answer(view, ledger.origin, cut).items()
            if floor is None or place[1] is None or place[1] >= floor
        }
        try:
            rows = list(scan_rows(snapshot, view, version=version))
            found = {(row.key, row.bucket): present(view, row.merged) for row in rows}
            require(len(found) == len(rows), "each key once", fingerprint)
            require(found == expected, f"{fingerprint} at {cut} (version {version})", found, "expected", expected)
            for key, bucket in list(expected)[:1]:
                row = get_row(snapshot, view, key, bucket, version)
                answer = None if row is None else present(view, row.merged)
                require(answer == expected[key, bucket], "get equals scan", key, bucket)
        except ProtocolError as refusal:
            raise ProtocolBroken(f"a live view cannot be answered: {refusal}") from refusal
        records = self.log.between(ledger.origin, cut)
        counted = ledger.rejects(fingerprint) if version is None else at.rejects.get(fingerprint, 0)
        require(
            counted == sum(map(view.refuses, events(records))),
            "rejects are counted once",
            fingerprint,
            counted,
        )

    def _check_ledger(self, ledger: Ledger) -> None:
        data = json.loads(json.dumps(ledger.to_json()))
        require(Ledger.from_json(data) == ledger, "a ledger survives JSON")
        require(Ledger.from_json(data, self._known) == ledger, "also where the one before is known", self._known)
        self._known = data, ledger
        place = ledger.version.cut
        for generation in ledger.generations:
            require(generation.begin == place, "generations tile", place, generation)
            last = generation is ledger.open
            require((generation.end is None) == last, "the last generation alone is open", generation)
            place = ledger.committed if generation.end is None else generation.end
        require(place == ledger.committed, "generations reach to the committed cut", place)
        counted = {topic: dict(parts) for topic, parts in ledger.log().items()}
        actual = statistics(self.log.between(ledger.origin, ledger.committed))
        require(counted == actual, "every record is counted once", counted, actual)
        floors = [version.floors for version in ledger.versions]
        for older, newer in pairwise(floors):
            fallen = [f for f in older if f in newer and newer[f] < older[f]]
            require(not fallen, "floors never fall", older, newer)


def present(view: ModelView, states: list[Any]) -> dict[str, Any]:
    return {name: m.present(state) for (name, m), state in zip(view.measures.items(), states, strict=True)}
