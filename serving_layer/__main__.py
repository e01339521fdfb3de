"""`python -m serving_layer --home DIR`: the same as `tideline serve`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from tideline.cli.main import main

    sys.exit(main(["serve", *sys.argv[1:]]))
