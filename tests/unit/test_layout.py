"""The layout of DESIGN section 8: who may import whom, and how large a file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("batch_layer", "speed_layer", "serving_layer")
PACKAGES = ("tideline", *LAYERS)
WIRING = (
    "tideline/cli/",
    "tideline/__init__.py",
    "tideline/oracle/",
    "tideline/simulate/",
    "tideline/testing",
)
PROTOCOL = (
    "tideline.cut",
    "tideline.ledger",
    "tideline.merge",
    "tideline.keys",
    "tideline.codec",
    "tideline.stores.base",
    "tideline.stores.memory",
)
OUTSIDE = ("pyspark", "py4j", "delta", "deltalake", "kafka", "fastapi", "uvicorn", "duckdb", "lmdb")
LONGEST = 400  # lines
LONGEST_JOB = 20


def files(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            yield node.module or ""


def packages_of(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_the_core_and_never_another_layer(layer: str) -> None:
    others = set(LAYERS) - {layer}
    assert {named(path): found for path in files(layer) if (found := packages_of(path) & others)} == {}
    assert any("tideline" in packages_of(path) for path in files(layer))


def test_the_core_imports_layers_only_where_it_wires_them_together() -> None:
    importing = {named(path) for path in files("tideline") if packages_of(path) & set(LAYERS)}
    assert {name for name in importing if not name.startswith(WIRING)} == set()


def test_serving_and_the_speed_and_batch_layers_do_not_import_the_command_line_but_in_their_jobs() -> None:
    importing = {named(path) for path in files(*LAYERS) if any(n.startswith("tideline.cli") for n in imports(path))}
    assert importing <= {f"{layer}/{name}.py" for layer in LAYERS for name in ("job", "__main__")}


def test_the_protocol_is_plain_python() -> None:
    """Cuts, ledger, merge and the store in memory can be driven where none of these is installed."""
    program = f"import sys\nsys.modules.update(dict.fromkeys({OUTSIDE!r}))\nimport {', '.join(PROTOCOL)}\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("job", ["batch_layer/job.py", "speed_layer/job.py", "serving_layer/__main__.py"])
def test_a_job_only_wires(job: str) -> None:
    path = ROOT / job
    tree = ast.parse(path.read_text("utf-8"))
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST_JOB
    assert not [
        node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.For, ast.While))
    ]


def test_files_are_short() -> None:
    lengths = {
        named(path): len(path.read_text("utf-8").splitlines()) for path in files(*PACKAGES, "examples", "scripts")
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}
