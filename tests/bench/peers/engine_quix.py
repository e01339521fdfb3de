"""Quix Streams on a backlog: states in RocksDB, keyed again through topics of its own, up to the last record."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from engine import serve
from quixstreams import Application, State


def drain(bootstrap: str, topic: str, answers: str, records: int) -> dict[str, Any]:
    """Once a process."""
    found: dict[str, dict[str, list[Any]]] = {"by_product": {}, "by_customer": {}, "by_hour": {}}
    seen = dict.fromkeys(found, 0)
    ended = 0.0
    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            broker_address=bootstrap,
            consumer_group=f"bench-{time.time_ns()}",
            auto_offset_reset="earliest",
            state_dir=folder,
            commit_interval=2.0,
        )
        sales = app.dataframe(app.topic(topic, value_deserializer="json"))

        def counted(view: str, key: Any) -> None:
            def take(sale: dict[str, Any], state: State) -> None:
                nonlocal ended
                values = state.get("values", [0, 0, 0.0])
                values = [values[0] + 1, values[1] + sale["quantity"], max(values[2], sale["price"])]
                state.set("values", values)
                found[view][key(sale)] = values[: 2 if view == "by_customer" else 3]
                seen[view] += 1
                if seen[view] == records and all(count >= records for count in seen.values()):
                    ended = time.monotonic()
                    app.stop()

            sales.group_by(key, name=view).update(take, stateful=True)

        counted("by_product", lambda sale: sale["product"])
        counted("by_customer", lambda sale: sale["customer"])
        counted("by_hour", lambda sale: f"{sale['country']} {sale['sold_at'][:13]}")
        began = time.monotonic()
        app.run()
    Path(answers).write_text(json.dumps(found), "utf-8")
    return {"seconds": ended - began}


serve(drain=drain)
