"""Cursors: where an answer with a limit ended, so that the next one goes on there.

A cursor holds the last row's key, window and what rows are ordered by. The next page has the rows behind that place in
the order as it is then, also where that row is gone: nothing is skipped or told twice but rows that changed their place
meanwhile. A query of an older version always has the same pages.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from typing import Any, ClassVar

from serving_layer.plan import Plan
from serving_layer.query import brief
from tideline.errors import Texts, UsageError
from tideline.keys import encode_key


class CursorError(UsageError):
    """A cursor that is none of the query's."""

    texts: ClassVar[Texts] = {
        "BAD_CURSOR": (
            "the cursor is not one of this query",
            "give what `next` of an answer to the same query said, or leave it out to begin anew",
        ),
    }


@dataclass(frozen=True)
class Place:
    """A row's place: wire values of its key columns, its window in microseconds, what each term of the order has."""

    key: tuple[Any, ...]
    window: int | None
    ranks: tuple[Any, ...]

    def name(self, plan: Plan) -> bytes:
        """The bytes by which rows that compare equal are ordered."""
        return encode_key([plan.view.key[index].type for index in plan.group], self.key, self.window)


def cursor_text(plan: Plan, place: Place) -> str:
    """The cursor of a place."""
    data = [_mark(plan), list(place.key), place.window, list(place.ranks)]
    text = json.dumps(data, separators=(",", ":"), default=_tagged, ensure_ascii=True)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(plan: Plan, text: Any) -> Place | None:
    """The place of a cursor; None for none. Raises CursorError for one of another query."""
    if text is None:
        return None
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
        mark, key, window, ranks = json.loads(raw, object_hook=_untagged)
        place = Place(tuple(key), window, tuple(ranks))
        fits = mark == _mark(plan) and len(key) == len(plan.group) and len(ranks) == len(plan.order)
        if not fits or type(window) is not (int if plan.time_name else type(None)):
            raise ValueError(text)
        place.name(plan)
    except (AttributeError, TypeError, ValueError, ArithmeticError, RecursionError, LookupError, struct.error):
        raise CursorError("BAD_CURSOR", option="cursor", value=brief(text)) from None
    return place


def _mark(plan: Plan) -> str:
    """What a query has to have in common with the one whose cursor it goes on from."""
    windows, zone = plan.windows, plan.zone and plan.zone.name
    parts = (plan.view.fingerprint, plan.filtered, plan.group, windows, zone, plan.order, plan.limit_by)
    return blake2b(repr(parts).encode(), digest_size=6).hexdigest()


def _tagged(value: Any) -> dict[str, str]:
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, dt.datetime):
        return {"time": value.isoformat()}
    if isinstance(value, dt.date):
        return {"date": value.isoformat()}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    raise TypeError(f"a row cannot be ordered by {type(value).__name__}")


def _untagged(tagged: dict[str, str]) -> Any:
    [(tag, text)] = tagged.items()
    return _TAGS[tag](text)


def _decimal(text: str) -> Decimal:
    number = Decimal(text)
    if number.is_nan():  # compares with no other
        raise ValueError(text)
    return number


_TAGS: Mapping[str, Callable[[str], Any]] = {
    "decimal": _decimal,
    "time": dt.datetime.fromisoformat,
    "date": dt.date.fromisoformat,
    "bytes": lambda text: base64.b64decode(text, validate=True),
}
