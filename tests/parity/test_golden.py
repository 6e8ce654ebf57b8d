"""Recorded numbers of the public reference implementations, case by case (`--golden DIR`).

Every folder of DIR with a `config.json` is a case; its `kind` says which check takes it
(`golden.CHECKS`), and all sizes come from it. Without the option, what lies beside the project is
taken, and cases of methods that are not here yet are passed over.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from .golden import CHECKS, Case

for module in sorted(Path(__file__).parent.glob("golden_*.py")):
    importlib.import_module(f".{module.stem}", __package__)


BESIDE = tuple(Path(__file__).parents[3] / "shared" / n for n in ("golden", "golden-methods"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the test all cases."""
    if "case" not in metafunc.fixturenames:
        return
    folders = metafunc.config.getoption("--golden") or BESIDE
    files = [file for folder in folders for file in sorted(folder.glob("*/config.json"))]
    cases = [Case(file.parent) for file in files]
    if cases:
        metafunc.parametrize("case", cases, ids=[case.folder.name for case in cases])
    else:
        reason = f"--golden {' '.join(map(str, folders))}: no case there (give a folder with some)"
        metafunc.parametrize("case", [pytest.param(None, marks=pytest.mark.skip(reason=reason))])


def test_golden(case: Case, request: pytest.FixtureRequest) -> None:
    """Would catch what `golden` says, and a case of a kind that nothing checks."""
    kind = case.config["kind"]
    if kind not in CHECKS and not request.config.getoption("--golden"):
        pytest.skip(f"kind {kind!r} is of a method that is not here yet")
    assert kind in CHECKS, f"kind {kind!r} is unknown"
    CHECKS[kind](case)
