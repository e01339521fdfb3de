"""What the two layers share on Spark: the session, reading Kafka, decoding, folding and merging states.

`read` gives a merged view as a DataFrame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def read(spark: SparkSession, view: str, home: str = ".tideline", **options: Any) -> DataFrame:
    """The merged answer of a view as a DataFrame, of one snapshot; options are those of `ViewReader.get`.

    It is read by the driver: filter and group in the options what need not come. Raises UsageError, StoreError and as
    a query does.
    """
    import tideline

    with tideline.open(home) as reader:
        table = reader.view(view).get(**options).to_arrow()
    return spark.createDataFrame(table.combine_chunks())  # of a chunk that is empty Spark drops what follows
