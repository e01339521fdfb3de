"""Lets Spark load the classes that a command or a layer needs, for their archive: `HOME`, then options of its JVM."""

from __future__ import annotations

import sys
from typing import Any

from tideline.runtime.home import Home
from tideline.runtime.spark_conf import spark_settings
from tideline.settings import Settings
from tideline.simulate import shop_catalog
from tideline.spark.session import start_spark
from tideline.testing import answers


def main(folder: str, *options: str) -> None:
    """Ends once the JVM has."""
    home = Home(folder).prepare()
    settings = spark_settings(home, Settings(), brief=True)
    settings["spark.driver.extraJavaOptions"] += "".join(f' "{option}"' for option in options)
    spark = start_spark("tideline-warm-up", settings)
    gateway: Any = spark.sparkContext._gateway
    event = {"event_id": "1", "at": "2020-01-01T00:00:00Z", "kind": "purchase", "country": "FR"}
    with answers(shop_catalog.__file__, [event], spark=spark):
        table = str(home.tmp / "table")
        spark.range(10).write.format("delta").save(table)
        spark.read.format("delta").load(table).groupBy("id").count().toArrow()
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
