"""Somebody who asks all the time, and adds up each answer: a record before its cut is counted once, or named lost."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError

_PAUSE = 0.1  # seconds between two answers


def faults(answer: Mapping[str, Any]) -> list[str]:
    """What does not add up in an answer of the view `tally`, of a topic in which no offset is left out."""
    proof = answer["proof"]
    lost = sum(loss["end"] - loss["begin"] for loss in proof["losses"])
    begin, end = (sum(sum(partitions.values()) for partitions in proof[name].values()) for name in ("origin", "cut"))
    records = end - begin - lost
    events, rejects, duplicates, dead = (
        sum(proof[name].values()) for name in ("events", "rejects", "duplicates", "dead_letters")
    )
    counted = sum(row["n"] for row in answer["rows"])
    found = []
    if records != events + duplicates + dead:
        found.append(f"{records} records, but {events} events, {duplicates} duplicates, {dead} dead letters: {proof}")
    if counted != events - rejects:
        found.append(f"{events} events, {rejects} rejects, but {counted} are counted: {proof}")
    return found


class Asker:
    """Asks over HTTP from its start to its end, whether the API is there or not; an error for an answer is wrong."""

    def __init__(self, url: Callable[[], str | None]) -> None:
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asker")
        self.answers = 0
        self.refused = 0
        self.slowest = 0.0
        self.wrong: list[str] = []
        self.heard: Callable[[Mapping[str, Any]], None] = lambda answer: None
        """Gets each answer."""
        self._told = 0

    @property
    def alive(self) -> bool:
        """Whether it goes on asking."""
        return self._thread.is_alive()

    def news(self) -> list[str]:
        """What was wrong since this was last asked for."""
        begin, self._told = self._told, len(self.wrong)
        return self.wrong[begin : self._told]

    def __enter__(self) -> Asker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(_PAUSE):
            began = time.monotonic()
            try:
                with urllib.request.urlopen(f"{self._url()}/v1/views/tally/rows", timeout=10) as response:
                    body = response.read()
            except HTTPError as error:
                self.wrong.append(f"{error.code}: {error.read().decode(errors='replace')}")
                continue
            except (OSError, ValueError, HTTPException):  # the API is away, or went away in the midst of an answer
                self.refused += 1
                continue
            self.answers += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            try:
                answer = json.loads(body)
                self.wrong += faults(answer)
                self.heard(answer)
            except Exception as error:  # noqa: BLE001 - whatever it is, that is no answer
                self.wrong.append(f"{error!r} in {body.decode(errors='replace')}")
