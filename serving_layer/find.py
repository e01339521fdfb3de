"""Finding a view and a topic in the ledger, or saying which there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from serving_layer.query import brief, similar
from tideline.cut import Cut
from tideline.errors import OutsideError, Texts, UsageError
from tideline.ledger import Ledger
from tideline.quarantine import reason_of


class NotReadyError(OutsideError):
    """An answer that cannot be given yet."""

    texts: ClassVar[Texts] = {
        "AT_LEAST_TIMEOUT": (
            "after {seconds:g} s the answer reaches {reached}, not {wanted}",
            "ask again later, wait longer (timeout), or see in status whether the speed layer runs",
        ),
        "KAFKA_UNKNOWN": (
            "nothing in {home} says where Kafka is, so how old the answer is cannot be told",
            "leave out max_staleness, or start the speed layer",
        ),
        "VIEW_NOT_LIVE": (
            "view {view} was applied and is not answerable yet",
            "it goes live when the next batch run has built it: tideline batch",
        ),
        "VIEW_QUARANTINED": (
            "view {view} failed in the {layer} layer and is quarantined: {reason}",
            "apply a catalog with a corrected view, or the same with `tideline apply --catalog FILE --retry {view}`; "
            "retained versions that hold it can be asked: {versions}",
        ),
    }


def not_shown(view: str, column: str, error: Exception) -> OutsideError:
    """What a value raises that is kept and merged right, and has no form that people read."""
    return OutsideError(
        "VALUE_NOT_SHOWN",
        f"view {view}: a value of {column} cannot be shown: {reason_of(error)}",
        "leave it out with --measures, ask for other keys, or bound the expression in the catalog",
        view=view,
        column=column,
        reason=reason_of(error),
    )


def find_view(ledger: Ledger, name: str, version: int | None = None) -> str:
    """The fingerprint of a view, live or in a version. Raises UsageError, NotReadyError."""
    live: Mapping[str, str] = ledger.live if version is None else ledger.find_version(version).live
    if name in live:
        return live[name]
    if version is None and name in ledger.wanted:
        raise NotReadyError("VIEW_NOT_LIVE", view=name, known=sorted(live))
    if version is None:
        _refuse_quarantined(ledger, name)
    where = "" if version is None else f" in version {version}"
    close = similar(name, live)
    known = f"views that can be asked: {', '.join(sorted(live)) or 'none'}"
    hint = f"did you mean {' or '.join(close)}? {known}" if close else known
    raise UsageError(
        "UNKNOWN_VIEW",
        f"there is no view {brief(name)}{where}",
        hint,
        view=brief(name),
        known=sorted(live),
        similar=close,
    )


def _refuse_quarantined(ledger: Ledger, name: str) -> None:
    for fingerprint, entry in ledger.quarantined.items():
        if entry["view"] == name:
            versions = [version.id for version in ledger.versions if version.live.get(name) == fingerprint]
            raise NotReadyError("VIEW_QUARANTINED", **entry, fingerprint=fingerprint, versions=versions)


def check_topics(ledger: Ledger, wanted: Cut) -> None:
    """Raises UsageError where a cut to wait for names a topic that no source reads."""
    for topic in wanted.topics():
        if topic not in ledger.topic_ids:
            known = sorted(ledger.topic_ids)
            raise UsageError(
                "UNKNOWN_TOPIC",
                f"at_least names the topic {topic}, which no source reads",
                f"topics: {', '.join(known) or 'none'}",
                topic=topic,
                known=known,
                similar=similar(topic, known),
            )
