"""Printing: tables for people, JSON, CSV and Arrow for programs, and an answer's proof in three lines."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tideline.cut import Cut
from tideline.types import json_value

if TYPE_CHECKING:
    from serving_layer.result import Result

Row = Mapping[str, Any]


def print_result(result: Result, form: str) -> None:
    """An answer to stdout; as a table with its proof below."""
    if form == "json":
        print_json(result.to_json())
    elif form == "csv":
        sys.stdout.write(result.to_csv())
    elif form == "arrow":
        print_arrow(result.to_arrow())
    else:
        answer = result.to_json()
        print(table(result.columns, answer["rows"]))
        print("\n" + "\n".join(proof_lines(result.proof, len(result))))
        if result.next is not None:
            print(f"more    --cursor {result.next}")


def print_rows(columns: Sequence[str], rows: Sequence[Row], form: str, whole: Any = None) -> None:
    """JSON-able rows to stdout; `whole` is what JSON shows instead of the rows."""
    if form == "json":
        print_json(list(rows) if whole is None else whole)
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([cell(row.get(name), "") for name in columns] for row in rows)
    elif form == "arrow":
        import pyarrow as pa

        print_arrow(pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows]))
    else:
        print(table(columns, rows))


def print_json(value: Any) -> None:
    """One JSON document to stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def print_arrow(found: Any) -> None:
    """A table to stdout in the Arrow IPC streaming format."""
    import pyarrow as pa

    sys.stdout.flush()
    with pa.ipc.new_stream(sys.stdout.buffer, found.schema) as writer:
        writer.write_table(found)


def table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Columns set under each other, numbers to the right."""
    from rich.cells import cell_len

    texts = [[cell(row.get(name)) for name in columns] for row in rows]
    widths = [max([cell_len(line[index]) for line in [list(columns), *texts]]) for index in range(len(columns))]
    right = [_all_numbers([row.get(name) for row in rows]) for name in columns]

    def line(cells: Sequence[str]) -> str:
        padded = []
        for text, width, to_right in zip(cells, widths, right, strict=True):
            space = " " * (width - cell_len(text))
            padded.append(space + text if to_right else text + space)
        return "  ".join(padded).rstrip()

    return "\n".join([line(columns), line(["-" * width for width in widths]), *map(line, texts)])


def _all_numbers(values: Iterable[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(_is_number(value) for value in known)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value.lstrip("-").replace(".", "", 1).isdigit()
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def cell(value: Any, null: str = "null") -> str:
    """A value on one line."""
    if value is None:
        return null
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False)
    return str(json_value(value)).replace("\n", "\\n").replace("\t", "\\t")


def proof_lines(proof: Mapping[str, Any], rows: int) -> list[str]:
    """The proof for people: where the answer ends, what it counts, how exact it is."""
    cut, batch_cut = Cut.from_json(proof["cut"]), Cut.from_json(proof["batch_cut"])
    covered = f"version {proof['version']} up to {str(batch_cut) or 'nothing'}"
    if proof["mode"] == "live":
        covered += f", then the speed layer up to {str(cut) or 'nothing'}"
    counts = [f"{_both(proof[name])} {name.replace('_', ' ')}" for name in ("duplicates", "dead_letters", "rejects")]
    events = f"{proof['events']['batch']} batch + {proof['events']['speed']} speed"
    count = f"{rows} {'row' if rows == 1 else 'rows'}"
    lines = [
        f"proof   {count} of {proof['view']} ({proof['fingerprint']}); {covered}",
        f"events  {events}; {', '.join(counts)}" + _ages(proof),
    ]
    if proof.get("quarantined"):
        lines.append(f"quarantined since: {proof['quarantined']}")
    exact = [name for name, bound in proof["measures"].items() if bound["exact"]]
    bounded = [f"{name} {bound['text']}" for name, bound in proof["measures"].items() if not bound["exact"]]
    return [*lines, f"exact   {'; '.join([', '.join(exact), *bounded] if exact else bounded)}"]


def _both(sides: Mapping[str, int]) -> int:
    return sides["batch"] + sides["speed"]


def _ages(proof: Mapping[str, Any]) -> str:
    floor = f"; nothing before {proof['floor']}" if proof["floor"] else ""
    return floor + (f"; {proof['freshness']:g} s old" if proof["freshness"] is not None else "")
