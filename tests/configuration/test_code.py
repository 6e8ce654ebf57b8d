"""What a module means: its syntax tree, whatever the Python that reads it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.configuration.code import meaning

BEFORE = """
def f(x: int = 1) -> str:
    return f"{x:>{x}} and {{}} 'it' \\u2028" "more"
"""


@pytest.mark.parametrize(
    "after",
    [
        '"""Docs."""\n# remark\n' + BEFORE,
        BEFORE.replace("    return", '    """Docs."""\n    return'),
        BEFORE.replace("    return", "    ...\n\n    # why\n    return"),
        BEFORE.replace("x: int = 1", "\n    x: int = 0x1,\n"),
    ],
)
def test_what_says_the_same_means_the_same(after: str) -> None:
    """Catches a remark, a docstring or a line break that would train anew."""
    assert meaning(after) == meaning(BEFORE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("= 1", "= 2"),
        ("= 1", "= 1.0"),
        ("= 1", "= '1'"),
        ("= 1", "= None"),
        ("= 1", "= True"),
        ("x: int = 1", "*, x: int = 1"),
        ("and", "or"),
        (":>{x}", ":<{x}"),
        ("def f", "async def f"),
        ("return", "yield"),
    ],
)
def test_what_says_something_else_means_something_else(old: str, new: str) -> None:
    """Catches a part of the tree that the hash leaves out."""
    assert meaning(BEFORE.replace(old, new)) != meaning(BEFORE)


def test_nothing_means_nothing() -> None:
    """Catches an `__init__.py` whose only docstring counts as code."""
    assert meaning('"""A package."""\n') == meaning("") == ""


def test_a_pinned_meaning() -> None:
    """Catches a version of Python that reads the same text as another tree: all results would be
    of other code there."""
    assert meaning(BEFORE) == "00a9871427af56446a861a34538b7c608ea0e057da9e321c6f732efbe6cbdf42"


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_every_python_finds_the_same_meaning(version: str, project: Path) -> None:
    """Catches the same, on the code of this project, where another Python is installed."""
    other = shutil.which(f"python{version}") or ""
    if not other or subprocess.run([other, "-V"], capture_output=True, check=False).returncode:
        pytest.skip(f"python{version} is not here")
    program = (
        "import importlib.util as u, sys; s = u.spec_from_file_location('code_', sys.argv[1]);"
        "m = u.module_from_spec(s); s.loader.exec_module(m);"
        "files = sorted((m.PROJECT / 'pipeline' / 'videos').rglob('*.py'));"
        "print(m.combined(m.meanings(files)))"
    )
    file = str(project / "pipeline" / "configuration" / "code.py")
    said = {
        subprocess.run(
            [python, "-c", program, file], capture_output=True, text=True, check=True
        ).stdout
        for python in (sys.executable, other)
    }
    assert len(said) == 1
