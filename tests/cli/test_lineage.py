"""What a file says of its inputs: of any benchmark, and of results made before."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.lineage.chain import problems
from pipeline.cli.lineage.reading import read
from pipeline.runtime.files import sha256_file, write_json, write_text

RUN = Path("results/e/runs/a")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index, weights and what trained them, by an older release that noted the index's hash."""
    monkeypatch.chdir(tmp_path)
    path = Path("data/d/shards/index.json")
    write_json(path, {"name": "d", "shards": [], "census": {"ok": 1}})
    weights, metrics = RUN / "model.safetensors", RUN / "metrics.jsonl"
    for file in (weights, metrics):
        write_text(file, file.name)
    body = {"run": "a", "sessions": [], "steps": 0, "provenance": {}, "configuration": {}}
    body |= {"model_sha256": sha256_file(weights), "metrics_sha256": sha256_file(metrics)}
    write_json(RUN / "pretrain.json", body | {"index_sha256": sha256_file(path)})
    return path


def test_a_benchmark_that_nobody_knew_is_traced(index: Path) -> None:
    """Catches a trace that has to be told of each benchmark: inputs, outputs, data drawn or not."""
    rows = RUN / "toy.parquet"
    write_text(rows, "rows")
    masks = {"name": "masks", "root": "/davis", "kind": "davis2017"}
    drawn = {"name": "gone", "clips": {"kind": "drawn"}}
    inputs = {"weights": sha256_file(RUN / "model.safetensors"), "d": sha256_file(index)}
    body = {
        "run": "a",
        "inputs": inputs | {"masks": "a" * 64, "gone": "b" * 64},
        "outputs": {"clips": sha256_file(rows)},
        "settings": {"data": [masks], "tasks": [drawn]},
    }
    write_json(RUN / "toy.json", body)
    reading = read(RUN / "toy.json")
    assert reading is not None
    assert reading.what == "toy of run a"
    drawn_by_path = {link.path: link.drawn for link in reading.links}
    expected = {RUN / "model.safetensors": False, index: False, None: True, rows: False}
    assert drawn_by_path == expected
    assert reading.notes == (f"masks: masks of other origin, hash {'a' * 12}",)
    assert problems(RUN / "toy.json") == []


def test_what_has_changed_since_is_a_problem(index: Path) -> None:
    """Catches results that count as made of weights, or of a data set, that were replaced."""
    assert problems(RUN / "pretrain.json") == []
    write_text(RUN / "model.safetensors", "others")
    write_json(index, {"name": "d", "shards": [], "census": {"ok": 2}})
    weights, data = sorted(problems(RUN / "pretrain.json"), reverse=True)
    assert weights.startswith(str(RUN / "model.safetensors"))
    assert data.startswith("no data set is here with the index ")


def test_an_experiment_of_before_leads_to_its_runs(index: Path) -> None:
    """Catches a chain that ends at scores in which the runs' files were not noted yet."""
    weights = sha256_file(RUN / "model.safetensors")
    inputs = {"index": sha256_file(index), "weights": {"a": weights}}
    path = Path("results/e/evaluation.json")
    write_json(path, {"experiment": "e", "inputs": inputs, "code": {"revision": "1"}})
    reading = read(path)
    assert reading is not None
    links = {link.path: link.sha256 for link in reading.links}
    expected = {index: sha256_file(index), RUN / "model.safetensors": weights}
    assert links == expected | {RUN / "evaluation.json": None}
    assert reading.made_with == {"code": {"revision": "1"}}


@pytest.mark.parametrize("name", ["README.md", "other.json", "list.json"])
def test_other_files_are_nobody_s(tmp_path: Path, name: str) -> None:
    """Catches a chain that is made up for a file of another origin."""
    (tmp_path / name).write_text("[1]" if name == "list.json" else "{}", encoding="utf-8")
    assert read(tmp_path / name) is None
