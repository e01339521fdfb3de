"""What goes wrong when an answer is written elsewhere."""

from __future__ import annotations

from typing import ClassVar

from tideline.errors import OutsideError, Texts


class ExportError(OutsideError):
    """An answer that cannot be written there."""

    texts: ClassVar[Texts] = {
        "NOT_EXPORTED": ("the answer cannot be written to {target}: {reason}", "see that it can be written to"),
    }
