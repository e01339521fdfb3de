"""How much somebody may ask: a bucket that fills with time, of requests and of the bytes of their answers."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

_MOST = 10_000  # of those that are remembered
_BYTES_BURST = 10.0  # seconds' worth of bytes that may be had at once


@dataclass
class _Bucket:
    level: float
    at: float

    def fill(self, rate: float, most: float, now: float) -> None:
        self.level = min(most, self.level + (now - self.at) * rate)
        self.at = now


class Limits:
    """By token, or by whoever an issuer names; threads may share it.

    Rates are those of the `[limits]` of the file of roles; without, there is no limit.
    """

    def __init__(self, limits: Mapping[str, float]) -> None:
        self._rate = limits.get("requests_per_second")
        self._burst = limits.get("burst", max(2 * (self._rate or 0), 10))
        self._bytes = limits.get("bytes_per_second")
        self._lock = threading.Lock()
        self._requests: OrderedDict[str, _Bucket] = OrderedDict()
        self._taken: OrderedDict[str, _Bucket] = OrderedDict()

    def ask(self, who: str) -> float:
        """Takes one request; 0, or the seconds after which there will be another."""
        with self._lock:
            return self._ask(who)

    def _ask(self, who: str) -> float:
        now, wait = time.monotonic(), 0.0
        if self._bytes is not None:
            taken = self._bucket(self._taken, who, self._bytes, self._bytes * _BYTES_BURST, now)
            wait = max(0.0, -taken.level / self._bytes)
        if self._rate is not None and not wait:
            bucket = self._bucket(self._requests, who, self._rate, self._burst, now)
            if bucket.level < 1:
                return (1 - bucket.level) / self._rate
            bucket.level -= 1
        return wait

    def took(self, who: str, count: int) -> None:
        """Notes the bytes of an answer: whoever had more than there were waits for the next."""
        if self._bytes is not None:
            with self._lock:
                self._bucket(self._taken, who, self._bytes, self._bytes * _BYTES_BURST, time.monotonic()).level -= count

    def _bucket(self, of: OrderedDict[str, _Bucket], who: str, rate: float, most: float, now: float) -> _Bucket:
        bucket = of.pop(who, None) or _Bucket(most, now)
        bucket.fill(rate, most, now)
        of[who] = bucket
        if len(of) > _MOST:
            of.popitem(last=False)
        return bucket
