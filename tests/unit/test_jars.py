"""The jar lock, its cache, and the Java that runs them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from tideline.runtime import jars
from tideline.runtime.jars import Jar, JarError, fetch_jars, read_lock
from tideline.runtime.java import JavaError, find_java, parse_version


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Jar]:
    """A cache that holds the one jar of a lock file, not yet verified, and no Java to fetch with."""
    jar = Jar("org.example", "thing", "1.0", hashlib.sha256(b"bytes").hexdigest())
    lock = tmp_path / "jars.lock"
    entry = {"org": jar.org, "name": jar.name, "rev": jar.rev, "sha256": jar.sha256}
    lock.write_text(json.dumps({"sets": {"spark": [entry], "kafka": []}}))
    monkeypatch.setattr(jars, "read_lock", lambda: read_lock(lock))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "no-java"))
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / jar.file_name).write_bytes(b"bytes")
    return cache, jar


def test_the_lock_pins_every_jar_once_and_leaves_out_what_pyspark_ships() -> None:
    sets = read_lock()
    shipped = {path.name.rsplit("-", 1)[0].lower() for path in jars.ivy_jar().parent.glob("*.jar")}
    for locked_jars in sets.values():
        names = [(jar.org, jar.name, jar.classifier) for jar in locked_jars]
        assert len(set(names)) == len(names)
        assert all(len(jar.sha256) == 64 for jar in locked_jars)
    assert {"delta-spark_4.2_2.13", "spark-sql-kafka-0-10_2.13"} <= {jar.name for jar in sets["spark"]}
    assert not shipped & {jar.name.lower() for jar in sets["spark"]}
    assert "kafka_2.13" in {jar.name for jar in sets["kafka"]}


def test_a_full_cache_is_verified_once_and_needs_no_java(
    locked: tuple[Path, Jar], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, _ = locked
    assert fetch_jars(cache) == cache
    monkeypatch.setattr(jars, "sha256_of", lambda path: pytest.fail("read a verified jar again"))
    assert fetch_jars(cache) == cache
    assert jars.spark_jars(cache) == [cache / "org.example_thing-1.0.jar"]


def test_a_jar_that_changed_after_it_was_verified_is_fetched_again(locked: tuple[Path, Jar]) -> None:
    cache, jar = locked
    fetch_jars(cache)
    (cache / jar.file_name).write_bytes(b"other")
    with pytest.raises(JavaError) as caught:
        fetch_jars(cache)
    assert caught.value.condition == "JAVA_MISSING"
    assert not list(cache.glob(".fetch-*"))


def test_a_cache_that_cannot_be_made_is_named(locked: tuple[Path, Jar], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JarError) as caught:
        fetch_jars(tmp_path / "file" / "cache")
    assert caught.value.condition == "CACHE_UNUSABLE"
    assert caught.value.exit_code == 3


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDELINE_CACHE", "/somewhere")
    assert jars.cache_folder() == Path("/somewhere/jars")
    monkeypatch.delenv("TIDELINE_CACHE")
    assert jars.cache_folder() == Path.home() / ".cache" / "tideline" / "jars"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_292"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ('openjdk version "22-ea" 2024-03-19', 22),
        ("command not found", None),
    ],
)
def test_java_versions_are_read_in_every_spelling(text: str, version: int | None) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("script", "condition"),
    [
        ("echo 'java version \"1.8.0_292\"' >&2", "JAVA_TOO_OLD"),
        ("exit 1", "JAVA_UNUSABLE"),
        (None, "JAVA_MISSING"),
    ],
)
def test_a_java_that_will_not_do_is_one_line_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, condition: str
) -> None:
    if script is not None:
        java = tmp_path / "bin" / "java"
        java.parent.mkdir()
        java.write_text(f"#!/bin/sh\n{script}\n")
        os.chmod(java, 0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(JavaError) as caught:
        find_java()
    assert caught.value.condition == condition
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    assert "17+" in caught.value.hint
