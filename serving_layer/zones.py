"""Time zones: which day it is somewhere, and when that day begins."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from dataclasses import dataclass
from functools import lru_cache

from serving_layer.query import bad_value, similar
from tideline.errors import UsageError
from tideline.types import EPOCH, MICROSECOND

DAY = 86_400_000_000
_FIRST = (dt.datetime.min.replace(tzinfo=dt.timezone.utc) - EPOCH) // MICROSECOND
_LAST = (dt.datetime.max.replace(tzinfo=dt.timezone.utc) - EPOCH) // MICROSECOND
_NAIVE_EPOCH = EPOCH.replace(tzinfo=None)


@dataclass(frozen=True)
class Zone:
    """A zone of the IANA time zone database. Instants are microseconds since the epoch."""

    name: str

    @property
    def info(self) -> zoneinfo.ZoneInfo:
        """What Python calls it."""
        return zoneinfo.ZoneInfo(self.name)

    def at(self, moment: int) -> dt.datetime:
        """An instant as its clocks show it; at the ends of the years 1 to 9999 as UTC has it."""
        shown = EPOCH + min(max(moment, _FIRST), _LAST) * MICROSECOND
        return shown.astimezone(self.info) if _FIRST + DAY < moment < _LAST - DAY else shown

    def offset(self, moment: int) -> int:
        """By how many microseconds its clocks are ahead of UTC at an instant."""
        return _micros(self.at(moment).utcoffset())

    def day(self, moment: int) -> int:
        """The date there at an instant, in days since 1970-01-01."""
        return (moment + self.offset(moment)) // DAY

    def midnight(self, day: int) -> int:
        """When that day begins there: its first midnight, or the moment in which the clocks jump over it."""
        local = day * DAY
        if not _FIRST + DAY < local < _LAST - DAY:
            return local
        first = (_NAIVE_EPOCH + local * MICROSECOND).replace(tzinfo=self.info)
        moment = local - _micros(first.utcoffset())
        if self.day(moment - 1) < day <= self.day(moment):
            return moment
        low, high = moment - DAY // 4, moment + DAY // 4
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.day(middle) >= day else (middle, high)
        return high


def find_zone(name: object) -> Zone | None:
    """The zone of that name; None for UTC and where none is given. Raises UsageError BAD_ZONE."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise bad_value("zone", name, "the name of a time zone, such as Europe/Berlin")
    known = _names()
    if name not in known:
        close = similar(name, known)
        raise UsageError(
            "BAD_ZONE",
            f"{name!r} is no time zone",
            f"did you mean {' or '.join(close)}?" if close else "give a name such as Europe/Berlin",
            option="zone",
            value=name,
            similar=close,
        )
    return None if name in ("UTC", "Etc/UTC") else Zone(name)


@lru_cache(1)
def _names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


def _micros(offset: dt.timedelta | None) -> int:
    return 0 if offset is None else offset // MICROSECOND
