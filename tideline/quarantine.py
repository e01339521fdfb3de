"""Which views fail by themselves, when work for all of them together has failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

FAULTS = (ArithmeticError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
_SPARK = (
    "ArithmeticException",
    "ArrayIndexOutOfBoundsException",
    "DateTimeException",
    "NumberFormatException",
    "SparkRuntimeException",
)
_FILES = "pyarrow"  # says by ValueError that a file is damaged


def may_be_a_views(error: BaseException) -> bool:
    """Whether an error can come from a view's values; never of Kafka, the disk, the store, memory or a refusal."""
    kind = type(error)
    if kind.__module__.partition(".")[0] == "pyspark":
        return kind.__name__ in _SPARK
    return isinstance(error, FAULTS) and kind.__module__.partition(".")[0] != _FILES


def failing(views: Iterable[str], attempt: Callable[[tuple[str, ...]], object], error: Exception) -> dict[str, str]:
    """{fingerprint: reason} of the views for which `attempt` fails alone, though it works for none at all.

    `attempt` does the work for some views and leaves nothing behind. What it raises for none is a fault outside, and
    goes on up. Raises `error`, that of all views together, where none of them fails alone.
    """
    attempt(())
    found: dict[str, str] = {}
    for view in views:
        try:
            attempt((view,))
        except Exception as own:
            if not may_be_a_views(own):
                raise
            found[view] = reason_of(own)
    attempt(())
    if not found:
        raise error
    return found


def reason_of(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
