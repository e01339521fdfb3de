"""Entry of the batch layer: `spark-submit batch_layer/job.py --home DIR`, or `tideline batch`. Only wires."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from tideline.cli.main import main

    sys.exit(main(["batch", *sys.argv[1:]]))
