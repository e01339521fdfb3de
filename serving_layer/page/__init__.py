"""The page: plain files, without a build step."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
FILES = tuple(
    sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.suffix in (".js", ".css", ".svg"))
)
"""What the page is made of beside `index.html`, as it names them."""
