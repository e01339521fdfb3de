"""In which form an answer goes out: JSON, CSV or an Arrow stream; packed; or not at all, where who asks has it."""

from __future__ import annotations

import gzip
from collections.abc import Mapping

from serving_layer.query import bad_value
from tideline.errors import UsageError

MEDIA_TYPES: Mapping[str, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
}
FORMATS = tuple(MEDIA_TYPES)
PACKED_FROM = 1_400  # bytes; fewer go out in one packet anyway
_LEVEL = 4
Headers = Mapping[bytes, bytes]
"""A request's headers, names in lower case."""


def chosen_form(given: str | None, headers: Headers) -> str:
    """By the parameter `format`, else by the header Accept. Raises UsageError BAD_VALUE, NOT_ACCEPTABLE."""
    if given is not None:
        if given not in FORMATS:
            raise bad_value("format", given, f"one of {', '.join(FORMATS)}")
        return given
    accept = headers.get(b"accept", b"*/*")
    return "json" if accept in (b"*/*", b"application/json") else _best(accept.decode("latin-1"))


def _best(accept: str) -> str:
    ranges = [found for found in map(_range, accept.split(",")) if "/" in found[0]]
    weights = {form: _weight(media.partition(";")[0], ranges) for form, media in MEDIA_TYPES.items()}
    best = max(weights, key=lambda form: weights[form])
    if ranges and not weights[best]:
        known = [media.partition(";")[0] for media in MEDIA_TYPES.values()]
        raise UsageError(
            "NOT_ACCEPTABLE",
            f"there is no answer in {accept[:200]}",
            f"accept one of {', '.join(known)}",
            value=accept[:200],
            known=known,
        )
    return best


def _range(part: str) -> tuple[str, float]:
    """(media range, weight) of a part of Accept."""
    media, *parameters = (text.strip().lower() for text in part.split(";"))
    weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
    try:
        return media, min(max(float(weight), 0.0), 1.0)
    except ValueError:
        return media, 0.0


def _weight(media: str, ranges: list[tuple[str, float]]) -> float:
    """That of the most specific range that holds the type."""
    for wanted in (media, f"{media.partition('/')[0]}/*", "*/*"):
        found = [weight for name, weight in ranges if name == wanted]
        if found:
            return max(found)
    return 0.0


def packed(body: bytes, headers: Headers) -> tuple[bytes, dict[str, str]]:
    """The body as it goes out, by Accept-Encoding, and the headers that say so."""
    accepted = headers.get(b"accept-encoding", b"")
    if len(body) < PACKED_FROM or b"gzip" not in accepted:
        return body, {}
    weights = dict(_range(part) for part in accepted.decode("latin-1").split(","))
    if not weights.get("gzip"):
        return body, {}
    return gzip.compress(body, _LEVEL, mtime=0), {"Content-Encoding": "gzip"}


def is_known(tag: str, headers: Headers) -> bool:
    """Whether If-None-Match names the answer with this tag."""
    known = headers.get(b"if-none-match")
    if known is None:
        return False
    names = [name.strip().removeprefix("W/") for name in known.decode("latin-1").split(",")]
    return "*" in names or tag.removeprefix("W/") in names
