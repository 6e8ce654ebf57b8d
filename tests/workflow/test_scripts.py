"""The scripts that count attacks and kill the chain: what they would say of a difference."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def script(name: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, project / "workflow" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_attacks_are_counted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a failure that counts as withstood, a test that is nowhere, and a table beside the
    one on the page."""
    attacks = script("attacks", project, monkeypatch)
    said = "  - during generate phase: 100 passing examples, 1 failing examples\n"
    said += "1 failed, 6 passed, 2 skipped, 1 error in 3.21s"
    assert attacks.counted(said) == attacks.Tried(cases=109, failed=2, skipped=2)
    for area in attacks.AREAS:
        for test in area.tests:
            file, _, name = test.partition("::")
            assert f"def {name}" in (project / file).read_text(encoding="utf-8")
    page = attacks.PAGE.read_text(encoding="utf-8")
    once = attacks.with_table(page, "| a |\n")
    assert attacks.with_table(once, "| a |\n") == once
    assert once.count("| a |") == 1


def test_differences_of_two_chains(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a file that is lost, left over or other, and times taken for a difference."""
    chain = script("kill_the_chain", project, monkeypatch)
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
