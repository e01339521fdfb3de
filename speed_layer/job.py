"""Entry of the speed layer: `spark-submit speed_layer/job.py --home DIR`, or `tideline speed`. Only wires."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from tideline.cli.main import main

    sys.exit(main(["speed", *sys.argv[1:]]))
