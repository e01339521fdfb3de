"""The oracle behind `tideline verify`: it reads the log back and recomputes views with code of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tideline.oracle.report import Difference, LogReport, Report, ViewReport

if TYPE_CHECKING:
    from tideline.oracle.run import verify

__all__ = ["Difference", "LogReport", "Report", "ViewReport", "verify"]


def __getattr__(name: str) -> Any:
    if name != "verify":
        raise AttributeError(name)
    import importlib

    return importlib.import_module("tideline.oracle.run").verify
