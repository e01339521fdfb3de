"""A strict parser of Prometheus' text format 0.0.4."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
KINDS = {"gauge": ("",), "counter": ("",), "summary": ("_sum", "_count"), "untyped": ("",)}
ESCAPES = {"\\\\": "\\", "\\n": "\n", '\\"': '"'}
Labels = frozenset[tuple[str, str]]


@dataclass
class Family:
    """A metric's samples by their labels; a summary's by name and labels."""

    kind: str
    help: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def value(self, suffix: str = "", **labels: object) -> float:
        """The one sample with exactly these labels."""
        return self.samples[suffix, frozenset((name, str(value)) for name, value in labels.items())]


def parse(text: str) -> dict[str, Family]:
    """The families by name; fails where the text is not what the format asks for."""
    assert text.endswith("\n")
    families: dict[str, Family] = {}
    name, told, kind = "", "", ""
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# HELP "):
            name, _, told = line.removeprefix("# HELP ").partition(" ")
            assert re.fullmatch(NAME, name), line
            assert name not in families, f"{name} comes twice"
            assert told
            kind = ""
        elif line.startswith("# TYPE "):
            typed, _, kind = line.removeprefix("# TYPE ").partition(" ")
            assert (typed, kind in KINDS) == (name, True), line
            families[name] = Family(kind, unescape(told))
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            assert kind, f"{line} comes before its type"
            suffix = found[1].removeprefix(name)
            assert found[1].startswith(name), line
            assert suffix in KINDS[kind], line
            place = (suffix, labels_of(found[2] or "", line))
            assert place not in families[name].samples, f"{line} comes twice"
            families[name].samples[place] = float(found[3])
    for name, family in families.items():
        assert family.samples, f"{name} has no sample"
        assert name.endswith("_total") == (family.kind == "counter"), name
        assert family.kind != "counter" or min(family.samples.values()) >= 0
    return families


def labels_of(text: str, line: str) -> Labels:
    pairs: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        found = LABEL.match(text, at)
        assert found, line
        pairs.append((found[1], unescape(found[2])))
        at = found.end()
        assert at == len(text) or text[at] == ",", line
        at += 1
    assert len(dict(pairs)) == len(pairs), line
    return frozenset(pairs)


def unescape(text: str) -> str:
    return re.sub(r'\\[\\n"]', lambda found: ESCAPES[found[0]], text)
