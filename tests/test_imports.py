"""What starting a stage imports: the heavy packages that it loads whether or not it needs them, and
the project's modules, which its sources have to hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.imports import MODULES, loaded, main
from pipeline.configuration import code, stages
from pipeline.configuration.stages import STAGES
from pipeline.evaluation.registry import BENCHMARKS

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
    "retrieve": {"torch", "scipy"},
    "few_shot": {"torch", "scipy"},
    "order": {"torch", "scipy"},
    "corrupt": {"torch", "scipy", "PIL"},
    "read_out": {"torch", "scipy"},
    "surprise": {"torch", "scipy", "pyarrow", "PIL"},
    "propagate": {"torch", "scipy", "pyarrow", "PIL"},
    "report": {"torch", "plotly", "PIL"},
    "models.hub": {"torch"},
    "embed": {"torch", "pyarrow"},
    "export": {"torch"},
}


# Whoever reads the configuration has these; their code is run where a model is trained or filled.
REGISTRIES = {
    f"pipeline.method.{n}" for n in ("registry", "choices", "masks", "motion", "losses", "targets")
}
REGISTRIES |= {type(benchmark).__module__ for benchmark in BENCHMARKS.values()}
REGISTRIES |= {f"pipeline.weights.{name}" for name in ("formats", "networks")}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Of all, by one process: PyTorch is imported once."""
    return loaded([name for name, packages in LOADED.items() if "torch" not in packages])


def test_no_stage_loads_more_than_it_uses(found: dict[str, Any]) -> None:
    """Catches timm, torchvision, PyTorch's compiler, scikit-learn or PyTorch itself creeping into
    what every job of a stage waits for (a late import that became an early one)."""
    assert {name: set(each["heavy"]) for name, each in found.items()} == LOADED
    assert found.keys() == MODULES.keys()


@pytest.mark.parametrize("stage", STAGES)
def test_sources_hold_all_that_a_stage_imports(
    stage: str, project: Path, found: dict[str, Any]
) -> None:
    """Catches a module whose change would not run the stage again (oracle: a real import)."""
    files = found[stage]["project"]
    assert STAGES[stage].module in files
    listed = {str(project / name) for name in stages.sources(stage)}
    unlisted = {
        name
        for name, file in files.items()
        if file not in listed and code.meaning(Path(file).read_bytes())
    }
    unlisted = {name for name in unlisted if not code.has_no_effect(name)}
    assert {
        n for n in unlisted if not any(f"{n}.".startswith(f"{k}.") for k in REGISTRIES)
    } == set()


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
