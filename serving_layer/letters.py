"""Dead letters over HTTP."""

from __future__ import annotations

from typing import Any

from serving_layer.find import NotReadyError
from serving_layer.kafka import bootstrap_of
from serving_layer.query import bad_value, whole
from serving_layer.reader import Reader
from tideline.errors import UsageError

_LISTED, _MOST = 100, 1_000
OPTIONS = ("source", "reason", "place", "limit")


def find_letters(reader: Reader, params: dict[str, str]) -> list[dict[str, Any]]:
    """Dead letters of a source, or of all, whose reason holds a text, or the one at a place; the first 100 unless told.

    Raises UsageError, NotReadyError KAFKA_UNKNOWN, KafkaFault.
    """
    from tideline.dead_letters import find, read_place
    from tideline.source import check_known

    if wrong := sorted(set(params) - set(OPTIONS)):
        hint = f"options: {', '.join(OPTIONS)}"
        raise UsageError("UNKNOWN_OPTION", f"there is no option {wrong[0][:100]}", hint, option=wrong[0][:100])
    ledger, source = reader.ledger(), params.get("source")
    if source is not None:
        check_known(source, ledger.sources)
    places = [read_place(params["place"])] if "place" in params else []
    limit = whole("limit", params.get("limit"), 0) or _LISTED
    if limit > _MOST:
        raise bad_value("limit", limit, f"a whole number up to {_MOST}")
    bootstrap = bootstrap_of(reader.home)
    if bootstrap is None:
        raise NotReadyError("KAFKA_UNKNOWN", home=str(reader.home.run))
    found = find(reader.home, ledger, bootstrap, source, params.get("reason"), places, limit)
    return [letter.to_json() for letter in found]
