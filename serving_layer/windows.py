"""Time windows over buckets: larger, sliding, or one for all, aligned to 1970-01-01T00:00:00Z."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from serving_layer.query import ALL, Duration, Time, brief, length
from serving_layer.zones import DAY, Zone
from tideline.definition import ViewDefinition
from tideline.durations import to_micros, to_text
from tideline.errors import UsageError
from tideline.types import EPOCH, TIMESTAMP, json_value, parse_time, to_json, to_wire

MAX_OVERLAP = 400  # windows that hold a bucket: a year's by days are 366
_REMEMBERED = 50_000  # buckets whose windows a query need not find again
Begins = Callable[[int], int]
"""When a day of a zone begins."""
_EARLIEST = int(to_wire(TIMESTAMP, dt.datetime.min))
_LATEST = int(to_wire(TIMESTAMP, dt.datetime.max))


@dataclass(frozen=True)
class Windows:
    """Which windows a bucket belongs to; all in microseconds.

    Windows start at the multiples of `slide` and are `width` long. Of [start, end), where set, only windows
    that lie wholly inside are answered, so that none of them lacks a part. `width` 0 is one window for
    everything in the range. In a zone windows of whole days are days on its calendar, and shorter ones begin anew at
    each midnight there; `bucket` is how long buckets are.
    """

    width: int
    slide: int
    start: int | None = None
    end: int | None = None
    zone: Zone | None = None
    bucket: int = 1

    @property
    def overlap(self) -> int:
        """The most windows that a bucket lies in."""
        return -(-self.width // self.slide) if self.width else 1

    def of(self, bucket: int | None) -> Sequence[int | None]:
        """The starts of the windows that hold a bucket, ascending; `(None,)` where there is one for all."""
        return self.finder()(bucket)

    def finder(self) -> Callable[[int | None], Sequence[int | None]]:
        """`of`, for the many buckets of one query: it remembers what it found, and when days began."""
        if self.width == 0:
            return lambda bucket: (None,)  # as of a view without buckets
        if self.zone is None:
            return lru_cache(_REMEMBERED)(self._of)
        remember, zone, within = lru_cache(_REMEMBERED), self.zone, self._within
        begins = remember(zone.midnight)
        if self.width % DAY:
            return remember(lambda bucket: within([self._part_of_day(zone, bucket, begins)]))
        of_day = remember(lambda day: within(self._days(zone, day, begins)))
        return remember(lambda bucket: of_day(zone.day(bucket)))

    def _of(self, bucket: int) -> Sequence[int]:
        last = bucket // self.slide * self.slide
        first = (bucket - self.width) // self.slide * self.slide + self.slide
        start = _EARLIEST if self.start is None and self.slide < self.width else self.start
        if start is not None:
            first = max(first, -(-start // self.slide) * self.slide)
        if self.end is not None:
            last = min(last, self.end - self.width)
        return range(first, last + 1, self.slide)

    def _within(self, found: Iterable[tuple[int, int]]) -> tuple[int, ...]:
        """The starts of those that lie wholly in the range."""
        low, high = _EARLIEST if self.start is None else self.start, _LATEST if self.end is None else self.end
        return tuple(start for start, end in found if low <= start and end <= high)

    def _part_of_day(self, zone: Zone, bucket: int, begins: Begins) -> tuple[int, int]:
        """The window of less than a day that holds a bucket, from start to end."""
        day = zone.day(bucket)
        midnight = self._midnight(zone, day, begins)
        start = midnight + (bucket - midnight) // self.width * self.width
        return start, min(start + self.width, self._midnight(zone, day + 1, begins))

    def _days(self, zone: Zone, day: int, begins: Begins) -> Iterator[tuple[int, int]]:
        """The windows of whole days that hold a day, from start to end."""
        days, step = self.width // DAY, self.slide // DAY
        for first in range((day - days) // step * step + step, day + 1, step):
            if begins(first) < begins(first + step):  # some day a calendar leaves out, as Samoa's did
                yield self._midnight(zone, first, begins), self._midnight(zone, first + days, begins)

    def around(self, moment: int) -> tuple[int, int]:
        """The start of the last window until an instant, and of the next one; where windows slide, of some."""
        if self.zone is None:
            below = moment // self.slide * self.slide
            return below, below + self.slide
        day = self.zone.day(moment)
        if self.slide % DAY:
            midnight = self._midnight(self.zone, day)
            below = midnight + (moment - midnight) // self.slide * self.slide
            return below, min(below + self.slide, self._midnight(self.zone, day + 1))
        step = self.slide // DAY
        first = day // step * step
        return self._midnight(self.zone, first), self._midnight(self.zone, first + step)

    def _midnight(self, zone: Zone, day: int, begins: Begins | None = None) -> int:
        """When a day begins there. Raises UsageError BAD_ZONE where that is in the middle of a bucket."""
        moment = (begins or zone.midnight)(day)
        if moment % self.bucket:
            raise UsageError(
                "BAD_ZONE",
                f"buckets of {to_text(self.bucket)} do not end at midnight in {zone.name}",
                f"leave out zone, or give the view a bucket that divides {to_text(moment % self.bucket)}",
                option="zone",
                value=zone.name,
                bucket=to_text(self.bucket),
            )
        return moment


def plan_windows(
    view: ViewDefinition,
    start: Time | None,
    end: Time | None,
    window: Duration | None,
    slide: Duration | None,
    zone: Zone | None = None,
) -> Windows:
    """The checked windows of a query; times that name no zone are those of `zone`.

    Raises UsageError BAD_TIME or BAD_WINDOW, which say what would fit, and BAD_ZONE.
    """
    if view.bucket is None:
        for name, value in (
            ("from", start),
            ("to", end),
            ("window", None if window == ALL else window),
            ("slide", slide),
        ):
            if value is not None:
                raise UsageError(
                    "NO_BUCKET",
                    f"view {view.name} has no time bucket, so {name} cannot be asked of it",
                    f"leave out {name}, or give the view a bucket",
                    view=view.name,
                    option=name,
                )
        return Windows(0, 0)
    width, step = _width(view.bucket, window), view.bucket
    if slide is not None:
        step = _slide(view.bucket, width, window, slide)
    elif width:
        step = width
    there = zone if window not in (None, ALL) else None
    if there is not None and step != width and (step % DAY or width % DAY):
        raise _bad_window("slide", slide or step, view.bucket, "whole days, as the window, as a zone asks for", DAY)
    if there is not None and width > DAY and width % DAY:
        days = max(width // DAY, 1) * DAY
        raise _bad_window(
            "window", window or width, view.bucket, "whole days, or less than one, as a zone asks for", days
        )
    steps = Windows(step, step, zone=there, bucket=view.bucket)
    low, high = _time(steps, zone, "from", start), _time(steps, zone, "to", end)
    if low is not None and high is not None and low > high:
        raise UsageError(
            "BAD_TIME",
            f"from {_spell(low)} lies after to {_spell(high)}",
            "swap them: from <= time < to",
            value=_spell(low),
            option="from",
        )
    return Windows(width, step, low, high, there, view.bucket)


def _width(bucket: int, window: Duration | None) -> int:
    if window is None:
        return bucket
    if window == ALL:
        return 0
    width = length("window", window)
    if width < bucket or width % bucket:
        raise _bad_window("window", window, bucket, f"a multiple of the bucket {to_text(bucket)}, or {ALL}", width)
    return width


def _slide(bucket: int, width: int, window: Duration | None, slide: Duration) -> int:
    if width == 0 or window is None:
        raise UsageError(
            "BAD_WINDOW",
            "slide needs a window",
            f"give window as a multiple of {to_text(bucket)}",
            option="slide",
            value=_text(slide),
            bucket=to_text(bucket),
        )
    step = length("slide", slide)
    if not bucket <= step <= width or step % bucket or width > step * MAX_OVERLAP:
        expected = f"a multiple of the bucket {to_text(bucket)} up to the window {to_text(width)}"
        raise _bad_window("slide", slide, bucket, f"{expected}, at most {MAX_OVERLAP} to a window", min(step, width))
    return step


def _bad_window(name: str, value: Duration, bucket: int, expected: str, length: int) -> UsageError:
    nearest = max((2 * length + bucket) // (2 * bucket), 1) * bucket
    return UsageError(
        "BAD_WINDOW",
        f"{name} {_text(value)} is not {expected}",
        f"try {to_text(nearest)}",
        option=name,
        value=_text(value),
        bucket=to_text(bucket),
        expected=expected,
        nearest=to_text(nearest),
    )


def _time(steps: Windows, zone: Zone | None, name: str, value: Time | None) -> int | None:
    if value is None:
        return None
    moment = _moment(name, value, zone)
    below, above = steps.around(moment)
    if moment != below:
        near = [_spell(time) for time in (below, above)]
        what = "bucket" if steps.slide == steps.bucket else "window"
        raise UsageError(
            "BAD_TIME",
            f"{name} {_text(value)} is not the start of a {what} of {to_text(steps.slide)}",
            f"try {near[0]} or {near[1]}",
            option=name,
            value=_text(value),
            bucket=to_text(steps.bucket),
            step=to_text(steps.slide),
            nearest=near,
        )
    return moment


def _moment(name: str, value: Time, zone: Zone | None) -> int:
    if isinstance(value, str):
        return parse_time(brief(value), zone.info if zone else dt.timezone.utc)
    if isinstance(value, dt.datetime):
        return int(to_wire(TIMESTAMP, value if value.tzinfo or zone is None else value.replace(tzinfo=zone.info)))
    if isinstance(value, dt.date):
        day = (value - EPOCH.date()).days
        return day * DAY if zone is None else zone.midnight(day)
    if isinstance(value, int) and not isinstance(value, bool) and _EARLIEST <= value <= _LATEST:
        return value
    raise UsageError(
        "BAD_TIME",
        f"{name} {brief(repr(value))} is not a time",
        "give ISO 8601, such as 2011-12-09T12:50:00Z",
        option=name,
        value=brief(value),
        expected="ISO 8601, such as 2011-12-09T12:50:00Z",
    )


def _spell(moment: int) -> str:
    return str(to_json(TIMESTAMP, moment)) if _EARLIEST <= moment <= _LATEST else f"{moment}us"


def _text(value: Time | Duration) -> str:
    if isinstance(value, dt.timedelta):
        return to_text(to_micros(value))
    return brief(json_value(value))
