"""What is wrong with a statement, and how much it may have; without DuckDB, which takes its time to come."""

from __future__ import annotations

from typing import ClassVar

from tideline.errors import OutsideError, Texts, UsageError

MOST_ROWS, MOST_BYTES = 100_000, 64 << 20


class SqlError(UsageError):
    """A statement that cannot be answered."""

    texts: ClassVar[Texts] = {
        "BAD_SQL": ("{reason}", "views that can be asked: {known}"),
        "SQL_NOT_A_QUERY": ("a statement that is no query: {kind}", "ask with one SELECT; nothing can be changed here"),
        "SQL_TOO_LARGE": ("the answer has more than {limit} {what}", "give a LIMIT, or group the rows"),
    }


class SqlTimeout(OutsideError):
    """A statement that took too long."""

    texts: ClassVar[Texts] = {
        "SQL_TIMEOUT": ("no answer within {seconds:g} s", "ask for less, or give it more time"),
        "SQL_ENDED": (
            "the statement ended its process, most often for want of memory",
            "ask for less: fewer rows, shorter texts",
        ),
    }
