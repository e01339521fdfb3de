"""`tideline init`: writes a project around a catalog, which runs at once."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tideline.cut import Cut
from tideline.errors import UsageError
from tideline.eventfiles import EventFile
from tideline.starter.infer import ROW_ID, Inferred, catalog_text, infer
from tideline.types import Column, parse_schema

TEMPLATES = Path(__file__).with_name("project")
KEPT = 200  # events that the project's test has
_READ = 20_000  # records of a topic that are looked at
_SUFFIX = ".template"


def from_example(folder: Path) -> list[Path]:
    """A project over made-up orders; the files that were written. Raises UsageError."""
    events = [json.dumps(event) for event in _orders()]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "events.jsonl"
        file.write_text("\n".join(events) + "\n", "utf-8")
        found = infer(file)
    return _write(folder, found, "orders", "orders", events, "events.jsonl", "")


def from_sample(folder: Path, sample: Path) -> list[Path]:
    """A project over a CSV or JSON-lines file of the user's. Raises UsageError."""
    found, source = infer(sample), _name(sample.name.split(".")[0])
    numbered = found.event_id is None and ".csv" in sample.suffixes
    schema = _columns(found, numbered)
    kept = EventFile(sample, schema, found.event_id, ROW_ID if numbered else None, KEPT)
    events = [event.value.decode("utf-8", "surrogateescape") for event in kept]
    return _write(folder, found, source, source, events, str(sample.resolve()), "", numbered)


def from_topic(folder: Path, topic: str, bootstrap: str) -> list[Path]:
    """A project over a topic that is there already, by the first of its records that Kafka holds.

    Raises UsageError where none of them is a JSON object, KafkaFault.
    """
    events = list(_records(topic, bootstrap))
    if not events:
        text, hint = f"topic {topic} holds no JSON objects", "name one that does, or give --sample"
        raise UsageError("NO_EVENTS", text, hint, topic=topic)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "events.jsonl"
        file.write_text("\n".join(events) + "\n", "utf-8")
        found = infer(file)
    return _write(folder, found, _name(topic), topic, events[:KEPT], None, bootstrap)


def _records(topic: str, bootstrap: str) -> Iterator[str]:
    """JSON objects among a topic's first records, each on one line."""
    from tideline.runtime.reading import read_records
    from tideline.runtime.topics import log_end_offsets, log_start_offsets

    starts, ends = log_start_offsets(bootstrap, [topic])[topic], log_end_offsets(bootstrap, [topic])[topic]
    most = max(_READ // max(len(ends), 1), 1)
    end = {partition: min(offset, starts.get(partition, 0) + most) for partition, offset in ends.items()}
    for batch in read_records(bootstrap, topic, Cut({topic: starts}), Cut({topic: end})):
        for record in batch:
            try:
                value = json.loads(record.value or b"")
            except ValueError:
                continue
            if isinstance(value, dict):
                yield json.dumps(value, ensure_ascii=False)


def _write(
    folder: Path,
    found: Inferred,
    source: str,
    topic: str,
    events: list[str],
    file: str | None,
    bootstrap: str,
    numbered: bool = False,
) -> list[Path]:
    if folder.exists() and any(folder.iterdir()):
        text, hint = f"{folder} is there already, and not empty", "name another folder"
        raise UsageError("FOLDER_TAKEN", text, hint, path=str(folder))
    name = _name(folder.resolve().name)
    values: dict[str, str] = {
        "name": name,
        "source": source,
        "topic": topic,
        "bootstrap": bootstrap,
        "start": "tideline up --catalog catalog.py --config tideline.toml",
        "produce": _produce(file, source, numbered),
        "count": str(_count(events, found)),
        **_expected(events, found),
    }
    written = {"catalog.py": catalog_text(found, source, topic, numbered), "events.jsonl": "\n".join(events) + "\n"}
    for template in sorted(TEMPLATES.rglob(f"*{_SUFFIX}")):
        path = _filled(str(template.relative_to(TEMPLATES)).removesuffix(_SUFFIX), values)
        written[path] = _filled(template.read_text("utf-8"), values)
    for path, text in written.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8", "surrogateescape")
        if path.endswith(".sh"):
            target.chmod(0o755)
    return [folder / path for path in sorted(written)]


def _filled(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], text)


def _produce(file: str | None, source: str, numbered: bool) -> str:
    if file is None:
        return "# events are in the topic already"
    return f"tideline produce {file} --source {source}" + (f" --row-id {ROW_ID}" if numbered else "")


def _columns(found: Inferred, numbered: bool) -> tuple[Column, ...]:
    more = {ROW_ID: "string"} if numbered else {}
    return parse_schema(", ".join(f"{name} {kind}" for name, kind in {**found.columns, **more}.items()))


def _rows(events: list[str], found: Inferred) -> list[dict[str, Any]]:
    """The events, each id once."""
    rows, seen = [], set()
    for event in events:
        row = json.loads(event)
        id = row.get(found.event_id) if found.event_id else None
        if id is None or id not in seen:
            rows.append(row)
            seen.add(id)
    return rows


def _count(events: list[str], found: Inferred) -> int:
    return len(_rows(events, found))


def _expected(events: list[str], found: Inferred) -> dict[str, str]:
    """How many events each key has, counted here and not by Tideline."""
    if found.key is None:
        return {"totals": f"{{None: {_count(events, found)}}}", "key_of": "None"}
    counts = Counter(row.get(found.key) for row in _rows(events, found))
    lines = "".join(f"    {key!r}: {count},\n" for key, count in counts.most_common())
    return {"totals": f"{{\n{lines}}}", "key_of": f'row["{found.key}"]'}


def _name(text: str) -> str:
    """A name that a source may have."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_") or "events"
    return f"events_{name}" if name[0].isdigit() else name


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
