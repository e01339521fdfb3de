"""How long the fuzzers look: seeded and a few seconds each, or as long as `FUZZ` says, each time elsewhere.

`FUZZ=100 pytest tests/unit/test_fuzz_decode.py` tries a hundred times as many inputs, from a random seed that a
failure prints.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("FUZZ", "1"))


def fuzz(examples: int) -> settings:
    """The profile of a property that looks at so many inputs in CI."""
    return settings(
        max_examples=examples * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
