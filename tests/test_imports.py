"""What starting a stage costs: the heavy packages that it loads whether or not it needs them."""

from __future__ import annotations

import json

import pytest

from benchmarks.imports import MODULES, loaded, main

# Seconds of every job of a stage; docs/benchmarks.md has how many. A package belongs here only
# where each job of the stage uses it; what some jobs use (an augmentation, a probe) is imported
# where they do.
NOTHING: set[str] = set()
LOADED = {
    "manifest": NOTHING,
    "download": NOTHING,
    "decode": NOTHING,
    "shard": NOTHING,
    "index": NOTHING,
    "command line": NOTHING,
    "pretrain": {"torch"},
    "evaluate": {"torch", "scipy", "pyarrow", "PIL"},
    "segment": {"torch", "sklearn", "scipy", "pandas", "pyarrow", "PIL"},
    "severe": {"torch", "sklearn", "scipy", "pandas", "pyarrow", "PIL"},
    "report": {"torch", "plotly", "PIL"},
    "models.hub": {"torch"},
    "embed": {"torch", "pyarrow"},
    "export": {"torch"},
}


@pytest.fixture(scope="module")
def found() -> dict[str, set[str]]:
    """Of all, by one process: PyTorch is imported once."""
    light = [name for name, packages in LOADED.items() if "torch" not in packages]
    return {name: set(packages) for name, packages in loaded(light).items()}


def test_no_stage_loads_more_than_it_uses(found: dict[str, set[str]]) -> None:
    """Catches timm, torchvision, PyTorch's compiler, scikit-learn or PyTorch itself creeping into
    what every job of a stage waits for (a late import that became an early one)."""
    assert found == LOADED
    assert found.keys() == MODULES.keys()


def test_the_benchmark_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a table without a stage, and seconds of another process."""
    monkeypatch.setattr(
        "benchmarks.imports.MODULES", {"none": "json", "list": "pipeline.data.records"}
    )
    assert main(["--rounds", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["heavy"] == {"none": [], "list": []}
    assert 0 < report["cpu_s"]["none"] < report["cpu_s"]["list"]
