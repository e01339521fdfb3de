"""An answer as a Delta table or a Parquet file, each time whole, and at one cut."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving_layer.arrow import PROOF
from serving_layer.result import Result
from tideline.export import ExportError

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("delta", "parquet")


def export_files(result: Result, target: str, form: str) -> int:
    """Replaces the Delta table or the Parquet file there by an answer, at once for whoever reads it; how many rows.

    The proof is the commit's metadata `tideline.proof`, or the file's. Raises ExportError.
    """
    table = result.to_arrow()
    try:
        if form == "delta":
            _write_delta(table, target, result.proof)
        else:
            _write_parquet(table, Path(target))
    except Exception as error:
        raise ExportError("NOT_EXPORTED", target=target, reason=f"{type(error).__name__}: {error}"[:300]) from error
    return len(table)


def _write_delta(table: pa.Table, target: str, proof: Mapping[str, Any]) -> None:
    from deltalake import CommitProperties, write_deltalake

    said = CommitProperties(custom_metadata={PROOF.decode(): json.dumps(proof)})
    plain = table.replace_schema_metadata(None)
    write_deltalake(target, plain, mode="overwrite", schema_mode="overwrite", commit_properties=said)


def _write_parquet(table: pa.Table, target: Path) -> None:
    import pyarrow.parquet as pq

    scratch = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(table, scratch, compression="zstd")
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)
