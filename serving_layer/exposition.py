"""Prometheus' text format, version 0.0.4: families with their help and type, and their samples."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Metric:
    """A family. `kind` is gauge, counter (named `..._total`), or summary (samples `..._sum` and `..._count`)."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


class Exposition:
    """Samples of declared metrics."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = {metric.name: metric for metric in metrics}
        self._samples: dict[str, list[str]] = {}

    def add(self, name: str, value: Any, *labels: object, suffix: str = "") -> None:
        """One sample, with the values of the metric's labels in their order; None is no sample."""
        metric = self._metrics[name]
        if len(labels) != len(metric.labels):
            raise ValueError(f"{name} has labels {metric.labels}, not {labels}")
        if value is None:
            return
        pairs = ",".join(f'{key}="{_escape(str(text))}"' for key, text in zip(metric.labels, labels, strict=True))
        place = f"{name}{suffix}{{{pairs}}}" if pairs else f"{name}{suffix}"
        self._samples.setdefault(name, []).append(f"{place} {_number(value)}\n")

    def text(self) -> str:
        """The families that have samples, in the order of their declaration."""
        parts = []
        for name, metric in self._metrics.items():
            if name in self._samples:
                told = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
                parts += [f"# HELP {name} {told}\n# TYPE {name} {metric.kind}\n", *self._samples[name]]
        return "".join(parts)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: Any) -> str:
    if isinstance(value, (bool, int)):
        return str(int(value))
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
