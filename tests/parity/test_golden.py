"""Recorded numbers of the public reference implementations, case by case (`--golden DIR`).

Every folder of DIR with a `config.json` is a case; its `kind` says which check takes it
(`golden.CHECKS`), and all sizes come from it.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from .golden import CHECKS, Case

for module in sorted(Path(__file__).parent.glob("golden_*.py")):
    importlib.import_module(f".{module.stem}", __package__)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the test all cases."""
    if "case" not in metafunc.fixturenames:
        return
    folder: Path = metafunc.config.getoption("--golden")
    cases = [Case(path.parent) for path in sorted(folder.glob("*/config.json"))]
    if cases:
        metafunc.parametrize("case", cases, ids=[case.folder.name for case in cases])
    else:
        reason = f"--golden {folder}: no case there (give a folder that has some)"
        metafunc.parametrize("case", [pytest.param(None, marks=pytest.mark.skip(reason=reason))])


def test_golden(case: Case) -> None:
    """Would catch what `golden` says, and a case of a kind that nothing checks."""
    kind = case.config["kind"]
    assert kind in CHECKS, f"kind {kind!r} is unknown"
    CHECKS[kind](case)
