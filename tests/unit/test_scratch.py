"""Scratch folders: each process has its own, and what a killed one leaves does not stay."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tideline.runtime.scratch import own_scratch

OTHER = """
import sys
from pathlib import Path
from tideline.runtime.scratch import own_scratch
folder = own_scratch(Path(sys.argv[1]), "speed")
(folder / "blocks").write_bytes(b"0" * 1000)
print(folder, flush=True)
sys.stdin.read()
"""


def start_other(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    return other, Path(other.stdout.readline().strip())


def test_what_a_killed_process_left_goes_when_the_next_one_starts_and_what_others_use_stays(tmp_path: Path) -> None:
    killed, left = start_other(tmp_path)
    living, used = start_other(tmp_path)
    with killed, living:
        killed.kill()
        killed.wait()
        assert (left / "blocks").exists()
        mine = own_scratch(tmp_path, "batch")
        assert not left.exists()
        assert (used / "blocks").exists()
        assert mine.is_dir()
        assert own_scratch(tmp_path, "recover") == mine
        living.communicate()
    assert not used.exists(), "a process that ends takes its own with it"
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, "lock"}


def test_what_is_not_a_scratch_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "speed-1").mkdir()
    (tmp_path / "speed-1" / "offsets").write_text("0")
    own_scratch(tmp_path, "batch")
    assert (tmp_path / "speed-1" / "offsets").exists()
