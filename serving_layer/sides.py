"""`VIEW`, `VIEW@old`, `VIEW@VERSION`, `VIEW@FINGERPRINT`: a definition of a view, and the cuts that it is held at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from serving_layer.find import find_view
from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.errors import UsageError
from tideline.ledger import Ledger, Version

OLD = "old"


@dataclass(frozen=True)
class Place:
    """A cut of the view's topic, and the spaces that hold the states of everything before it."""

    cut: Cut
    spaces: tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """A definition as one version has it, or as it is answered live (`version` is None)."""

    view: ViewDefinition
    version: int | None
    floor: int | None
    places: tuple[Place, ...]

    @property
    def label(self) -> str:
        """How it is written so that it means the same later on."""
        return f"{self.view.name}@{self.view.fingerprint}"


def find_side(ledger: Ledger, text: str) -> Side:
    """The side that `text` names.

    `VIEW` is what is answered now; `VIEW@12` what version 12 answers; `VIEW@old` the definition that was answered
    before the present one, and `VIEW@` with 16 hexadecimal digits the definition of that fingerprint, both live or as
    the newest version that still holds them. Raises UsageError UNKNOWN_VIEW, UNKNOWN_VERSION, NO_SUCH_DEFINITION,
    BAD_VALUE, and NotReadyError.
    """
    name, at, which = text.partition("@")
    if not at:
        return _side(ledger, find_view(ledger, name), None)
    if re.fullmatch("[0-9a-f]{16}", which):
        if ledger.live.get(name) == which:
            return _side(ledger, which, None)
        return _newest(ledger, text, [version for version in ledger.versions if version.live.get(name) == which])
    if which == OLD:
        now = ledger.live.get(name)
        return _newest(ledger, text, [v for v in ledger.versions if v.live.get(name, now) != now])
    if which.isdecimal():
        return _side(ledger, find_view(ledger, name, int(which)), ledger.find_version(int(which)))
    raise UsageError(
        "BAD_VALUE",
        f"{text!r} names no definition",
        "write VIEW, VIEW@old, VIEW@VERSION, or VIEW@FINGERPRINT with 16 hexadecimal digits",
        value=text,
    )


def _newest(ledger: Ledger, text: str, versions: list[Version]) -> Side:
    name = text.partition("@")[0]
    known = {version.live[name]: version.id for version in ledger.versions if name in version.live}
    if not versions:
        shown = ", ".join(f"{fingerprint} in version {id}" for fingerprint, id in known.items())
        raise UsageError(
            "NO_SUCH_DEFINITION",
            f"no retained version holds {text}",
            f"definitions of {name} that are held: {shown or 'none'}",
            view=name,
            known=sorted(known),
        )
    return _side(ledger, versions[-1].live[name], versions[-1])


def _side(ledger: Ledger, fingerprint: str, version: Version | None) -> Side:
    found = version or ledger.version
    places = tuple(_places(ledger, fingerprint, found, version is None))
    view = ViewDefinition.from_json(ledger.definition(fingerprint))
    return Side(view, None if version is None else version.id, found.floors.get(fingerprint), places)


def _places(ledger: Ledger, fingerprint: str, version: Version, live: bool) -> Iterator[Place]:
    """Every cut at which segments end, and with `live` generations, in log order."""
    topic = [ledger.topic_of(fingerprint)]
    spaces: tuple[str, ...] = ()
    for id in version.views.get(fingerprint, ()):
        segment = ledger.segments[id]
        spaces = (*spaces, segment.space)
        yield Place(segment.end.restrict(topic), spaces)
    for generation in ledger.generations if live else ():
        if fingerprint not in generation.definitions:
            return
        spaces = (*spaces, generation.space(fingerprint))
        yield Place((generation.end or ledger.committed).restrict(topic), spaces)


def common_place(left: Side, right: Side) -> tuple[Place, Place]:
    """The furthest cut at which both can be answered. Raises UsageError NO_COMMON_CUT."""
    for mine in reversed(left.places):
        for theirs in reversed(right.places):
            if mine.cut == theirs.cut:
                return mine, theirs
    raise UsageError(
        "NO_COMMON_CUT",
        f"{left.label} and {right.label} are held at no cut in common",
        "compare versions that were published one right after the other, or views of one source",
        left=[str(place.cut) for place in left.places],
        right=[str(place.cut) for place in right.places],
    )
