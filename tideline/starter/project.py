"""`tideline init`: writes a project around a catalog, which runs at once."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tideline.cut import Cut
from tideline.decode_record import parse_record
from tideline.errors import UsageError
from tideline.eventfiles import EventFile
from tideline.starter.infer import Inferred, catalog_text, infer
from tideline.starter.sample import ROWS, Sample, read_sample
from tideline.types import parse_schema

TEMPLATES = Path(__file__).with_name("project")
KEPT = 200  # events that the project's test has
_SUFFIX = ".template"


@dataclass(frozen=True)
class Project:
    """The files that were written, the commands that come first, and a line on each thing that was left out."""

    files: tuple[Path, ...]
    commands: tuple[str, ...]
    notes: tuple[str, ...]


def from_example(folder: Path) -> Project:
    """A project over made-up orders. Raises UsageError."""
    events = [json.dumps(event).encode() for event in _orders()]
    return _write(folder, _inferred(events), "orders", "orders", events, "events.jsonl", "")


def from_sample(folder: Path, file: Path) -> Project:
    """A project over a CSV or JSON-lines file of the user's. Raises UsageError."""
    found, source = infer(file), _name(file.name.split(".")[0])
    row_id = found.row_id if found.event_id is None and EventFile(file).format == "csv" else None
    schema = parse_schema(", ".join(f"{name} {kind}" for name, kind in found.columns.items()))
    events = read_sample(file, schema, found.event_id, row_id, KEPT).values
    return _write(folder, found, source, source, events, str(file.resolve()), "", row_id)


def from_topic(folder: Path, topic: str, bootstrap: str) -> Project:
    """A project over a topic that is there already, by the first of its records that Kafka holds.

    Raises UsageError where none of them is a JSON object, KafkaFault.
    """
    sample = _records(topic, bootstrap)
    if not sample.values:
        text, hint = f"topic {topic} holds no JSON objects", "name one that does, or give --sample"
        raise UsageError("NO_EVENTS", text, hint, topic=topic)
    found = _inferred(sample.values, sample.note)
    return _write(folder, found, _name(topic), topic, sample.values[:KEPT], None, bootstrap)


def _inferred(events: Sequence[bytes], notes: Sequence[str] = ()) -> Inferred:
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "events.jsonl"
        file.write_bytes(_lines(events))
        found = infer(file)
    return replace(found, notes=(*notes, *found.notes))


def _lines(events: Sequence[bytes]) -> bytes:
    """JSON objects, each on a line: between two of its words a break is as good as a space."""
    return b"".join(b" ".join(event.splitlines()) + b"\n" for event in events)


def _records(topic: str, bootstrap: str) -> Sample:
    """The first records of each of a topic's partitions."""
    from tideline.runtime.reading import read_records
    from tideline.runtime.topics import log_end_offsets, log_start_offsets

    starts, ends = log_start_offsets(bootstrap, [topic])[topic], log_end_offsets(bootstrap, [topic])[topic]
    most = max(ROWS // max(len(ends), 1), 1)
    end = {partition: min(offset, starts.get(partition, 0) + most) for partition, offset in ends.items()}
    sample = Sample()
    for batch in read_records(bootstrap, topic, Cut({topic: starts}), Cut({topic: end})):
        for record in batch:
            sample.add(record.value)
    return sample


def _write(
    folder: Path,
    found: Inferred,
    source: str,
    topic: str,
    events: Sequence[bytes],
    file: str | None,
    bootstrap: str,
    row_id: str | None = None,
) -> Project:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        text, hint = f"{folder} is there already, and not empty", "name another folder"
        raise UsageError("FOLDER_TAKEN", text, hint, path=str(folder))
    name = _name(folder.resolve().name)
    commands = "tideline up --catalog catalog.py --config tideline.toml", _produce(file, source, row_id)
    values: dict[str, str] = {
        "name": name,
        "label": _label(name),
        "source": source,
        "topic": topic,
        "bootstrap": bootstrap,
        "start": commands[0],
        "produce": commands[1],
        "events": found.count,
        "count": str(len(events)),
        **_expected(events, found),
    }
    written = {
        "catalog.py": catalog_text(found, source, topic, row_id is not None).encode(),
        "events.jsonl": _lines(events),
    }
    for template in sorted(TEMPLATES.rglob(f"*{_SUFFIX}")):
        filled = _filled(str(template.relative_to(TEMPLATES)).removesuffix(_SUFFIX), values)
        written[filled] = _filled(template.read_text("utf-8"), values).encode("utf-8", "surrogateescape")
    for path, content in written.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        if path.endswith(".sh"):
            target.chmod(0o755)
    return Project(tuple(folder / path for path in sorted(written)), commands, found.notes)


def _filled(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], text)


def _produce(file: str | None, source: str, row_id: str | None) -> str:
    if file is None:
        return "# events are in the topic already"
    return f"tideline produce {shlex.quote(file)} --source {source}" + (f" --row-id {row_id}" if row_id else "")


def _expected(events: Sequence[bytes], found: Inferred) -> dict[str, str]:
    """How many events each key has, counted here and not by Tideline."""
    if found.key is None:
        return {"totals": f"{{None: {len(events)}}}", "key_of": "None"}
    counts = Counter(parse_record(event).get(found.key) for event in events)
    lines = "".join(f"    {key!r}: {count},\n" for key, count in counts.most_common())
    return {"totals": f"{{\n{lines}}}", "key_of": f'row["{found.key}"]'}


def _name(text: str) -> str:
    """A name that a source may have."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")[:100] or "events"
    return f"events_{name}" if name[0].isdigit() else name


def _label(name: str) -> str:
    """A name that a Service of Kubernetes, its pods and an image may have."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:50].strip("-")


def _orders() -> Iterator[dict[str, Any]]:
    countries, products = ("France", "Norway", "Chile", "Japan", "Kenya"), ("cup", "lamp", "chair", "rug")
    for number in range(KEPT):
        yield {
            "order_id": f"o-{number}",
            "ordered_at": f"2026-01-{number // 24 % 28 + 1:02}T{number % 24:02}:{number * 7 % 60:02}:00Z",
            "country": countries[number * 3 % 5],
            "product": products[number * 5 % 4],
            "quantity": number * 7 % 9 + 1,
            "amount": round((number * 37 % 400) / 4 + 2.5, 2),
        }
