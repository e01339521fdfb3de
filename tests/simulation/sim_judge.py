"""The judge: what can be answered in a state of the store is compared with a plain fold of the records."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from sim_log import Kafka, Message, between, events
from sim_views import MEANINGS, Meaning

from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.errors import ProtocolError
from tideline.ledger import Ledger
from tideline.ledger.parts import LogStats
from tideline.merge import get_row, scan_rows, view_spaces
from tideline.plans import topics
from tideline.stores.memory import MemorySnapshot


class Wrong(AssertionError):
    """An answer that is not the recompute, a refusal without a cause, or a standstill."""


class Judge:
    """Knows every record as it was when it was first read, whatever becomes of the broker."""

    def __init__(self, kafka: Kafka) -> None:
        self._topics = dict(kafka.topics)
        self._swapped: dict[Message, Message] = {}
        self.gone: list[Message] = []  # what the broker showed and shows no more, counted or not
        self._checked: MemorySnapshot | None = None
        self._answers: dict[Any, dict[Any, dict[str, Any]]] = {}
        self._right: dict[tuple[str, int | None], Any] = {}
        self._logs: dict[Any, dict[int, tuple[int, int]]] = {}

    def records(self, ledger: Ledger, topic: str, begin: Cut, end: Cut) -> list[Message]:
        """The records of [begin, end), as they were first read, but for what a ledger says is gone or is replaced."""
        losses = [loss for loss in ledger.losses if loss.topic == topic]
        gone = [loss for loss in losses if loss.why == "expired"]
        swapped = {} if any(loss.why == "replaced" for loss in losses) else self._swapped
        return [
            swapped.get(message, message)
            for message in between(self._topics[topic], topic, begin, end)
            if not any(loss.partition == message.partition and loss.begin <= message.offset < loss.end for loss in gone)
        ]

    def swap(self, counted: Message, found: Message) -> None:
        """The broker shows `found` where `counted` was read before."""
        self._swapped[found] = counted
        for known in (self._answers, self._right, self._logs):
            known.clear()

    def check(self, state: MemorySnapshot) -> None:
        """Compares all that can be answered with the recompute."""
        if state is self._checked:
            return
        self._checked = state
        ledger = state.ledger
        for name, fingerprint in ledger.live.items():
            if MEANINGS[fingerprint].view.name != name:
                raise Wrong(f"{name} is answered by {fingerprint}")
            self._check_view(state, MEANINGS[fingerprint], ledger.committed, None)
        for version in ledger.versions:
            for fingerprint in version.views:
                self._check_view(state, MEANINGS[fingerprint], version.cut, version.id)
        self._check_log(ledger)
        for fingerprint in ledger.quarantined:
            meaning = MEANINGS[fingerprint]
            sent = [message for held in self._topics[meaning.source.topic].messages for message in held]
            if not any(map(meaning.breaks, [*sent, *self.gone])):
                raise Wrong(f"{fingerprint} is quarantined, and nothing it breaks on was sent")

    def _check_view(self, state: MemorySnapshot, meaning: Meaning, cut: Cut, version: int | None) -> None:
        """Compares unless all that an answer is made of is what it was when it was right."""
        ledger, view = state.ledger, meaning.view
        try:
            spaces = [
                state._spaces.get(space) for side in view_spaces(ledger, view.fingerprint, version) for space in side
            ]
        except ProtocolError as error:
            raise Wrong(f"{view.fingerprint} cannot be answered: {error}") from error
        floors = (ledger.version if version is None else ledger.find_version(version)).floors
        counted = ledger.rejects(view.fingerprint) if version is None else self._rejects(ledger, view, version)
        of = (cut, ledger.origin, ledger.losses, floors.get(view.fingerprint), counted)
        right = self._right.get((view.fingerprint, version))
        same = right is not None and right[0] == of and len(right[1]) == len(spaces)
        if not same or any(a is not b or b is None for a, b in zip(right[1], spaces, strict=True)):
            self._compare(state, meaning, cut, version, floors.get(view.fingerprint), counted)
            self._right[view.fingerprint, version] = of, spaces

    def _compare(
        self,
        state: MemorySnapshot,
        meaning: Meaning,
        cut: Cut,
        version: int | None,
        floor: int | None,
        counted: int,
    ) -> None:
        ledger, view = state.ledger, meaning.view
        expected = {
            place: answer
            for place, answer in self._recompute(meaning, ledger, cut).items()
            if floor is None or place[1] >= floor
        }
        try:
            found = {
                (row.key, row.bucket): {
                    name: measure.present(merged)
                    for (name, measure), merged in zip(view.measures.items(), row.merged, strict=True)
                }
                for row in scan_rows(state, view, version=version)
            }
            looked = [get_row(state, view, key, bucket, version) for key, bucket in list(expected)[:1]]
        except ProtocolError as error:
            raise Wrong(f"{view.fingerprint} cannot be answered: {error}") from error
        if found != expected or None in looked:
            wrong = {place for place in {*found, *expected} if found.get(place) != expected.get(place)}
            place = min(wrong, key=repr) if wrong else None
            raise Wrong(
                f"{view.fingerprint} version {version} at {cut}: {place} is {found.get(place)}, "
                f"recomputed {expected.get(place)}"
            )

        records = self.records(ledger, meaning.source.topic, ledger.origin, cut)
        refused = sum(map(meaning.refuses, events(meaning.source, records)))
        if counted != refused:
            raise Wrong(f"{view.fingerprint} version {version} at {cut} rejects {counted} events, recomputed {refused}")

    def _rejects(self, ledger: Ledger, view: ViewDefinition, version: int) -> int:
        return ledger.find_version(version).rejects.get(view.fingerprint, 0)

    def _recompute(self, meaning: Meaning, ledger: Ledger, cut: Cut) -> dict[Any, dict[str, Any]]:
        memo = (meaning.view.fingerprint, ledger.origin, ledger.losses, cut)
        if memo not in self._answers:
            topic = meaning.source.topic
            groups: dict[Any, list[Message]] = {}
            for message in events(meaning.source, self.records(ledger, topic, ledger.origin, cut)):
                if meaning.takes(message):
                    groups.setdefault(meaning.place(message), []).append(message)
            self._answers[memo] = {place: meaning.answer(messages) for place, messages in groups.items()}
        return self._answers[memo]

    def _check_log(self, ledger: Ledger) -> None:
        """Every record before the committed cut is counted once, and no floor falls."""
        for older, newer in pairwise(version.floors for version in ledger.versions):
            if any(newer.get(name, floor) < floor for name, floor in older.items()):
                raise Wrong(f"a floor fell: {older}, then {newer}")
        log = ledger.log()
        for name in topics(ledger):
            expected = self._log(ledger, name)
            for partition in range(len(self._topics[name].ends)):
                found = log.get(name, {}).get(partition, LogStats())
                records, checksum = expected.get(partition, (0, 0))
                if (found.records, found.checksum) != (records, checksum):
                    raise Wrong(f"{name}:{partition} counts {found.records} of {records} records")

    def _log(self, ledger: Ledger, topic: str) -> dict[int, tuple[int, int]]:
        """How many records each partition has before the committed cut, and their checksum."""
        memo = topic, ledger.origin, ledger.losses, ledger.committed
        if memo not in self._logs:
            found = self._logs[memo] = {}
            for message in self.records(ledger, topic, ledger.origin, ledger.committed):
                records, checksum = found.get(message.partition, (0, 0))
                found[message.partition] = records + 1, checksum ^ message.checksum
        return self._logs[memo]
