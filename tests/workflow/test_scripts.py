"""The scripts that count attacks and kill the chain: what they would say of a difference."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PROJECT / "workflow" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


CASES = """
import pytest
from hypothesis import given, settings, strategies

@settings(max_examples=10, database=None)
@given(strategies.integers())
def test_all(number): pass

@pytest.mark.parametrize("name", ["a", "b[c]", "::"])
def test_each(name): assert name != "a"

@pytest.mark.skip
def test_none(): pass

@pytest.fixture
def broken(): raise OSError

def test_broken(broken): pass
"""


def test_attacks_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a failure that counts as withstood, and examples of hypothesis that are lost where
    several processes run the tests."""
    attacks = script("attacks", monkeypatch)
    (tmp_path / "test_cases.py").write_text(CASES, encoding="utf-8")
    shutil.copy(PROJECT / "tests" / "conftest.py", tmp_path)
    options = ("-n", "2", "-p", "no:cacheprovider", "--junitxml=report.xml")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "pytest", *options]
    subprocess.run(command, cwd=tmp_path, env=environment, check=False)
    area = attacks.Area("x", "", ("test_cases.py",))
    tried = attacks.counted(area, attacks.read([tmp_path / "report.xml"]))
    assert tried == attacks.Tried(cases=5 + 10, failed=2, skipped=1)
    one = attacks.Area("x", "", ("test_cases.py::test_each",))
    assert attacks.counted(one, attacks.read([tmp_path / "report.xml"])).cases == 3


def test_each_area_has_its_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a test that is nowhere, and a table beside the one on the page."""
    attacks = script("attacks", monkeypatch)
    for area in attacks.AREAS:
        for test in area.tests:
            file, _, name = test.partition("::")
            assert f"def {name}" in (PROJECT / file).read_text(encoding="utf-8")
    page = attacks.PAGE.read_text(encoding="utf-8")
    once = attacks.with_table(page, "| a |\n")
    assert attacks.with_table(once, "| a |\n") == once
    assert once.count("| a |") == 1


def test_differences_of_two_chains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a file that is lost, left over or other, and times taken for a difference."""
    chain = script("kill_the_chain", monkeypatch)
    for name, seconds, rest in (("a", 1, "x"), ("b", 2, "x"), ("c", 1, "y")):
        folder = tmp_path / name / "results"
        folder.mkdir(parents=True)
        body = f'{{"seconds": {seconds}, "deep": [{{"score": "{rest}"}}]}}'
        (folder / "evaluation.json").write_text(body, encoding="utf-8")
    (folder / ".x.tmp.json").write_text("{}", encoding="utf-8")
    one, two, three = (chain.contents(tmp_path / name) for name in "abc")
    assert chain.differences(one, two) == []
    assert chain.differences(one, three) == [
        "left over: results/.x.tmp.json",
        "different: results/evaluation.json",
    ]
    assert chain.differences(one, {}) == ["missing: results/evaluation.json"]
