"""Spark's settings for the layers, as a properties file for `spark-submit --properties-file`.

Only there do `spark.jars` take effect: set in a session builder they are ignored. What a user sets in the
table `[spark]` wins over everything here.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tideline.runtime.class_archive import ClassArchive
from tideline.runtime.home import Home
from tideline.runtime.jars import spark_jars
from tideline.settings import Settings
from tideline.spark.session import spark_defaults

LOG_SETTINGS = Path(__file__).with_name("spark-log4j2.properties")
JSON_LOG_SETTINGS = LOG_SETTINGS.with_name("spark-log4j2-json.properties")  # laid over the others
# The parallel collector takes less of the processor than the default; the fold of many views is a method larger than
# those that are compiled by default.
_JAVA = ("-XX:+UseParallelGC", "-XX:-DontCompileHugeMethods")
# For small data and many plans, where the optimising compiler costs more than it gives. The quick one alone would have
# a code cache of 48 MB, which Spark's generated code fills.
_QUICK_COMPILER = ("-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=240m")


def spark_settings(home: Home, settings: Settings, brief: bool = False, scratch: Path | None = None) -> dict[str, str]:
    """Every Spark setting by name, for seconds of work if `brief`, with a process's own `scratch` folder.

    Raises JarError, JavaError.
    """
    jars = [str(jar) for jar in spark_jars()]
    java = [*_java_options(settings), *(_QUICK_COMPILER if brief else ()), *map(_quoted, spark_archive().options())]
    if scratch:
        java.append(_quoted(f"-Djava.io.tmpdir={scratch}"))
    chosen = spark_defaults(settings["spark.cores"], settings["spark.driver_memory"], jars) | {
        "spark.driver.extraJavaOptions": " ".join(java),
        "spark.local.dir": str(scratch or home.tmp),
        "spark.sql.warehouse.dir": str((scratch or home.tmp) / "warehouse"),
    }
    return chosen | settings.spark


def spark_archive() -> ClassArchive:
    """The archive of Spark's own classes. Raises JavaError."""
    spec = importlib.util.find_spec("pyspark")
    return ClassArchive("spark", f"{spec and spec.origin} {importlib.metadata.version('pyspark')}")


def _quoted(option: str) -> str:
    return f'"{option}"'


def _java_options(settings: Settings) -> tuple[str, ...]:
    files = (LOG_SETTINGS, JSON_LOG_SETTINGS) if settings["log.format"] == "json" else (LOG_SETTINGS,)
    return *_JAVA, "-Duser.timezone=UTC", f"-Dlog4j2.configurationFile={','.join(file.as_uri() for file in files)}"


def properties_text(properties: Mapping[str, str]) -> str:
    """A Java properties file; spark-submit reads it as UTF-8."""
    lines = (f"{name}={value}" for name, value in properties.items())
    return "".join(line.replace("\\", "\\\\").replace("\n", "\\n") + "\n" for line in lines)


def write_spark_properties(path: Path, home: Home, settings: Settings) -> Path:
    """Write the properties file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(properties_text(spark_settings(home, settings)), "utf-8")
    return path


def submit_environment(properties: Path) -> dict[str, str]:
    """What makes a plain `python job.py` start its JVM as spark-submit would with this properties file."""
    return {
        "PYSPARK_SUBMIT_ARGS": f'--properties-file "{properties}" pyspark-shell',
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }


def submit_command(
    layer: str, home: Home, settings: Settings, confs: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """PySpark's own spark-submit with a layer's job, and its environment; `confs` are `name=value`. Raises JarError."""
    import pyspark

    jobs = {"speed": "speed_layer.job", "batch": "batch_layer.job"}
    job = importlib.util.find_spec(jobs[layer])
    properties = write_spark_properties(home.run / f"{layer}.properties", home, settings)
    spark = Path(pyspark.__file__).parent
    options = [word for conf in confs for word in ("--conf", conf)]
    command = [str(spark / "bin" / "spark-submit"), "--properties-file", str(properties), *options]
    environment = {
        **os.environ,
        "SPARK_HOME": str(spark),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2"),
    }
    return [*command, str(job and job.origin)], environment
