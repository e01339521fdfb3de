"""A store whose file is damaged, at many places: an error that names it, never another answer, never a silent end."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tideline.errors import StoreError
from tideline.ledger import Ledger, Segment
from tideline.stores.lmdb import LmdbStore

PAGE = 4096
KEYS = 3000
META_PAGES = 2
CHILD = """
import json, sys
from tideline.cli.crashes import explain_crashes
explain_crashes()
from tideline.errors import TidelineError
from tideline.stores.lmdb import LmdbStore
how, keys = sys.argv[1], int(sys.argv[2])
for home in sys.argv[3:]:
    print(json.dumps([home, "began"]), flush=True)
    try:
        with LmdbStore.open(home, readonly=True, map_size=1 << 28) as store:
            if how == "walk":
                store.check()
            with store.snapshot() as snapshot:
                expected = {b"key%06d" % n: (b"value of %06d, " % n) * (n % 7) for n in range(keys)}
                found = {name: dict(snapshot.scan(name)) for name in ("s1", "s2")}
                one = {key: snapshot.get("s1", key) for key in list(expected)[::11]}
                few = dict(snapshot.scan("s2", b"key000100", b"key000200"))
                right = (
                    found == {"s1": expected, "s2": {key: value[:5] for key, value in expected.items()}}
                    and all(value == expected[key] for key, value in one.items())
                    and len(few) == 100
                    and snapshot.get("s1", b"key000100x") is None
                )
        print(json.dumps([home, "right" if right else "WRONG"]), flush=True)
    except TidelineError as error:
        print(json.dumps([home, error.condition]), flush=True)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a store with two segments, some thousand keys each."""
    home = tmp_path_factory.mktemp("whole")
    rows = [(b"key%06d" % n, (b"value of %06d, " % n) * (n % 7)) for n in range(KEYS)]
    with LmdbStore.open(home, create=True, map_size=1 << 28) as store:
        with store.write() as txn:
            txn.load("s1", rows)
            txn.load("s2", [(key, value[:5]) for key, value in rows])
        with store.write() as txn:
            segments = {
                id: Segment(id, "v", Ledger.create("").origin, Ledger.create("").origin, KEYS, "full") for id in (1, 2)
            }
            from dataclasses import replace

            txn.put_ledger(replace(txn.ledger, segments=segments, next_segment=3))
    return (home / "store" / "data.mdb").read_bytes()


def flip(data: bytearray, place: int, dice: random.Random) -> bytearray:
    data[place] ^= 1 << dice.randrange(8)
    return data


def page_of(data: bytearray, dice: random.Random) -> int:
    return dice.randrange(META_PAGES, len(data) // PAGE) * PAGE


def a_page_of_noise(data: bytearray, dice: random.Random) -> bytearray:
    place = page_of(data, dice)
    data[place : place + PAGE] = dice.randbytes(PAGE)
    return data


DAMAGE: dict[str, Any] = {
    "a bit anywhere": lambda data, dice: flip(data, dice.randrange(META_PAGES * PAGE, len(data)), dice),
    "a bit of a page's header": lambda data, dice: flip(data, page_of(data, dice) + dice.randrange(16), dice),
    "a bit of a page's pointers": lambda data, dice: flip(data, page_of(data, dice) + dice.randrange(16, 80), dice),
    "a page of noise": a_page_of_noise,
    "a page of zeros": lambda data, dice: data[: (at := page_of(data, dice))] + bytes(PAGE) + data[at + PAGE :],
    "an end cut off": lambda data, dice: data[: dice.randrange(META_PAGES * PAGE, len(data))],
}


def read_all(folder: Path, how: str, homes: list[Path]) -> dict[str, tuple[str, str]]:
    """What a process made of each home: a word, and the line on stderr if it ended there."""
    left, made = list(map(str, homes)), {}
    while left:
        child = subprocess.run(
            [sys.executable, "-c", CHILD, how, str(KEYS), *left],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        for line in child.stdout.splitlines():
            home, word = json.loads(line)
            made[home] = (word, "")
        assert "Traceback" not in child.stderr, child.stderr
        last = json.loads(child.stdout.splitlines()[-1])
        if last[1] == "began":
            said = [line for line in child.stderr.splitlines() if line.startswith("tideline: ")]
            assert child.returncode == 3, (child.returncode, child.stderr)
            made[last[0]] = ("crash", said[0])
        left = [home for home in left if home not in made]
    return made


@pytest.mark.parametrize("how", ["walk", "read"])
def test_a_damaged_file_is_named_and_never_another_answer(tmp_path: Path, whole: bytes, how: str) -> None:
    """`walk` is what a layer does at its start, `read` what a query does."""
    dice, homes = random.Random(how), {}
    for kind, damage in DAMAGE.items():
        for number in range(8):
            home = tmp_path / f"{len(homes)}"
            (home / "store").mkdir(parents=True)
            (home / "store" / "data.mdb").write_bytes(damage(bytearray(whole), dice))
            homes[home] = f"{kind}, {number}"
    made = read_all(tmp_path, how, list(homes))
    count = Counter((homes[Path(home)].split(",")[0], word) for home, (word, _) in made.items())
    named = {"STORE_DAMAGED", "STORE_CUT_SHORT", "STORE_INCOMPLETE", "MISSING_SPACE"}
    assert {word for _, word in count} <= {"right", "crash", *named}, count
    assert all("tideline rebuild" in said for word, said in made.values() if word == "crash")
    assert count["an end cut off", "right"] + count["a page of noise", "right"] < 8, count


def test_a_missing_key_is_shown_to_be_missing(tmp_path: Path) -> None:
    """A key whose bytes changed is not found; its neighbour tells."""
    with LmdbStore.open(tmp_path, create=True, map_size=1 << 28) as store, store.write() as txn:
        txn.load("s1", [(b"key%03d" % n, b"v") for n in range(50)])
    file = tmp_path / "store" / "data.mdb"
    data = file.read_bytes()
    assert data.count(b"key017") == 1
    file.write_bytes(data.replace(b"key017", b"key\xff17"))
    with LmdbStore.open(tmp_path, readonly=True) as store:
        for read in (
            lambda snapshot: snapshot.get("s1", b"key017"),
            lambda snapshot: snapshot.get_many("s1", [b"key003", b"key017"]),
            lambda snapshot: list(snapshot.scan("s1", b"key010", b"key020")),
        ):
            with pytest.raises(StoreError) as caught, store.snapshot() as snapshot:
                read(snapshot)
            assert (caught.value.condition, caught.value.params["path"]) == ("STORE_DAMAGED", str(tmp_path))
