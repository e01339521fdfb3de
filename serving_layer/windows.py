"""Time windows over buckets: larger, sliding, or one for all, aligned to 1970-01-01T00:00:00Z."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from serving_layer.query import ALL, Duration, Time, bad_value
from tideline.definition import ViewDefinition
from tideline.durations import to_micros, to_text
from tideline.errors import UsageError
from tideline.types import EPOCH, TIMESTAMP, json_value, parse_time, to_json, to_wire

MAX_OVERLAP = 10_000
_EARLIEST = int(to_wire(TIMESTAMP, dt.datetime.min))
_LATEST = int(to_wire(TIMESTAMP, dt.datetime.max))


@dataclass(frozen=True)
class Windows:
    """Which windows a bucket belongs to; all in microseconds.

    Windows start at the multiples of `slide` and are `width` long. Of [start, end), where set, only windows
    that lie wholly inside are answered, so that none of them lacks a part. `width` 0 is one window for
    everything in the range.
    """

    width: int
    slide: int
    start: int | None = None
    end: int | None = None

    def of(self, bucket: int | None) -> Sequence[int | None]:
        """The starts of the windows that hold a bucket, ascending; `(None,)` where there is one for all."""
        if self.width == 0 or bucket is None:
            return (None,)
        last = bucket // self.slide * self.slide
        first = (bucket - self.width) // self.slide * self.slide + self.slide
        start = _EARLIEST if self.start is None and self.slide < self.width else self.start
        if start is not None:
            first = max(first, -(-start // self.slide) * self.slide)
        if self.end is not None:
            last = min(last, self.end - self.width)
        return range(first, last + 1, self.slide)


def plan_windows(
    view: ViewDefinition,
    start: Time | None,
    end: Time | None,
    window: Duration | None,
    slide: Duration | None,
) -> Windows:
    """The checked windows of a query. Raises UsageError BAD_TIME or BAD_WINDOW, which say what would fit."""
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
    low, high = _time(view.bucket, step, "from", start), _time(view.bucket, step, "to", end)
    if low is not None and high is not None and low > high:
        raise UsageError(
            "BAD_TIME",
            f"from {_spell(low)} lies after to {_spell(high)}",
            "swap them: from <= time < to",
            value=_spell(low),
            option="from",
        )
    return Windows(width, step, low, high)


def _width(bucket: int, window: Duration | None) -> int:
    if window is None:
        return bucket
    if window == ALL:
        return 0
    width = _length("window", window)
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
    step = _length("slide", slide)
    if not bucket <= step <= width or step % bucket or width > step * MAX_OVERLAP:
        expected = f"a multiple of the bucket {to_text(bucket)} up to the window {to_text(width)}"
        raise _bad_window("slide", slide, bucket, f"{expected}, at most {MAX_OVERLAP} to a window", min(step, width))
    return step


def _length(name: str, value: Duration) -> int:
    if isinstance(value, bool) or not isinstance(value, (dt.timedelta, str, int)):
        raise bad_value(name, value, "a length of time, such as 1d")
    return to_micros(value)


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


def _time(bucket: int, step: int, name: str, value: Time | None) -> int | None:
    if value is None:
        return None
    moment = _moment(name, value)
    if moment % step:
        below = moment // step * step
        near = [_spell(time) for time in (below, below + step)]
        what = "bucket" if step == bucket else "window"
        raise UsageError(
            "BAD_TIME",
            f"{name} {_text(value)} is not the start of a {what} of {to_text(step)}",
            f"try {near[0]} or {near[1]}",
            option=name,
            value=_text(value),
            bucket=to_text(bucket),
            step=to_text(step),
            nearest=near,
        )
    return moment


def _moment(name: str, value: Time) -> int:
    if isinstance(value, str):
        return parse_time(value)
    if isinstance(value, dt.datetime):
        return int(to_wire(TIMESTAMP, value))
    if isinstance(value, dt.date):
        return (value - EPOCH.date()).days * 86_400_000_000
    if isinstance(value, int) and not isinstance(value, bool) and _EARLIEST <= value <= _LATEST:
        return value
    raise UsageError(
        "BAD_TIME",
        f"{name} {value!r} is not a time",
        "give ISO 8601, such as 2011-12-09T12:50:00Z",
        option=name,
        value=str(value),
        expected="ISO 8601, such as 2011-12-09T12:50:00Z",
    )


def _spell(moment: int) -> str:
    return str(to_json(TIMESTAMP, moment)) if _EARLIEST <= moment <= _LATEST else f"{moment}us"


def _text(value: Time | Duration) -> str:
    if isinstance(value, dt.timedelta):
        return to_text(to_micros(value))
    return str(json_value(value))
