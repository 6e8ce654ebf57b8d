"""Benchmarks are run by hand and rarely: what they import has to be there all the same."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import benchmarks

MODULES = sorted(path.stem for path in Path(benchmarks.__file__).parent.glob("[a-z]*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_a_benchmark_imports(module: str) -> None:
    """Catches a benchmark that was left behind by a change of names."""
    importlib.import_module(f"benchmarks.{module}")
