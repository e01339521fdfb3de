"""Lengths of time, held as whole microseconds."""

from __future__ import annotations

import datetime as dt
import re

from tideline.errors import UsageError

LONGEST = 2**63 - 1  # microseconds
_UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


def seconds(count: float) -> dt.timedelta:
    """`count` seconds."""
    return dt.timedelta(seconds=count)


def minutes(count: float) -> dt.timedelta:
    """`count` minutes."""
    return dt.timedelta(minutes=count)


def hours(count: float) -> dt.timedelta:
    """`count` hours."""
    return dt.timedelta(hours=count)


def days(count: float) -> dt.timedelta:
    """`count` days of 24 hours."""
    return dt.timedelta(days=count)


def to_micros(length: dt.timedelta | str | int) -> int:
    """Microseconds of a timedelta, of text such as `15m` or `1h`, or of a count of seconds. Raises UsageError."""
    if isinstance(length, dt.timedelta):
        micros = length // dt.timedelta(microseconds=1)
    elif isinstance(length, int):
        micros = length * 1_000_000
    else:
        match = re.fullmatch(r"\s*([0-9]{1,19})\s*(us|ms|s|m|h|d)\s*", length)
        if not match:
            expected = "a number and a unit (us, ms, s, m, h, d), such as 15m"
            raise UsageError("BAD_DURATION", value=length, expected=expected)
        micros = int(match[1]) * _UNITS[match[2]]
    if abs(micros) > LONGEST:
        raise UsageError("BAD_DURATION", value=str(length), expected="at most 2^63 - 1 microseconds, 292,000 years")
    return micros


def to_text(micros: int) -> str:
    """The shortest text for a length: 3600000000 is `1h`."""
    for unit in ("d", "h", "m", "s", "ms"):
        if micros and micros % _UNITS[unit] == 0:
            return f"{micros // _UNITS[unit]}{unit}"
    return f"{micros}us"
