"""The ledger: the small transactional record of definitions, cuts, generations, versions and fences.

A `Ledger` is an immutable value. Its transitions are methods that return another one or raise a
ProtocolError, and touch neither files nor clocks, so that a simulator drives the very code that runs. A
store replaces the whole ledger in the write transaction that changes the states which it describes.
"""

from tideline.ledger.parts import (
    NO_RECORDS,
    Generation,
    Log,
    LogStats,
    Loss,
    Segment,
    Version,
    add_counts,
    merge_logs,
)
from tideline.ledger.state import FORMAT, LAYERS, Ledger

__all__ = [
    "FORMAT",
    "LAYERS",
    "NO_RECORDS",
    "Generation",
    "Ledger",
    "Log",
    "LogStats",
    "Loss",
    "Segment",
    "Version",
    "add_counts",
    "merge_logs",
]
