"""The whole chain, from the embedded data set to the report, with the real commands."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.configuration.layout import DataLayout, ExperimentLayout

from .workspace import Workspace, environment, heed_interrupts

pytestmark = pytest.mark.slow

DATA = DataLayout("synthetic_tiny")
TINY_RESULTS = ExperimentLayout("tiny")
RUNS = ("sigma_mlp", "pixel", "random")
AFTER_TRAINING = {"evaluate": 3, "report": 1}
BENCHMARKS = {"segment": 3, "severe": 3}
ALL_BUT_DATA = {"pretrain": 3, **BENCHMARKS, **AFTER_TRAINING}
FROM_DECODE = {"decode": 2, "shard": 2, "index": 1, **ALL_BUT_DATA}


def hashes(folder: Path, runs: Sequence[str] = RUNS) -> dict[str, str]:
    """Hash every result of the data set and of the runs that is to be reproducible."""
    shards = sorted((folder / DATA.shards).glob("*.tar"))
    assert len(shards) > 3
    files = [
        *shards,
        *(folder / TINY_RESULTS.run(run).weights for run in runs),
        *(folder / TINY_RESULTS.run(run).metrics for run in runs),
        *(folder / TINY_RESULTS.run(run).predictions for run in runs),
    ]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_the_chain_ends_with_table_and_report(finished: Workspace, first_output: str) -> None:
    """Catches a stage that does not fit the next, and a run that ends without its results."""
    said = first_output
    assert "Traceback" not in said
    assert "results/tiny/report.html" in said
    scores = json.loads((finished.folder / TINY_RESULTS.evaluation).read_text(encoding="utf-8"))
    assert {row["run"] for row in scores["scores"]} == set(RUNS)
    page = (finished.folder / TINY_RESULTS.report).read_text(encoding="utf-8")
    for run in RUNS:
        assert run in page
        assert f"[pretrain {run}]" in said  # progress reaches the terminal
        log = finished.folder / "logs" / "tiny" / f"pretrain-{run}.log"
        assert f"[pretrain {run}]" in log.read_text(encoding="utf-8")


def test_runs_are_pretrained_side_by_side(first_output: str) -> None:
    """Catches a rule that takes both cores, so that runs wait for each other."""
    said = first_output
    first_end = said.index("(Rule: pretrain)")
    begun = [run for run in RUNS if 0 <= said.find(f"[pretrain {run}]") < first_end]
    assert len(begun) >= 2


def test_a_second_run_does_nothing(finished: Workspace) -> None:
    """Catches a rule that never is up to date."""
    files = [p for p in (finished.folder / "results").rglob("*") if p.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert "Nothing to be done" in finished.snakemake().stdout
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert finished.planned() == {}


def test_make_run_shows_the_table_once(finished: Workspace, tmp_path: Path) -> None:
    """Catches a table that is shown twice or, where nothing was to be done, not at all."""
    again = finished.copy(tmp_path / "again")
    (again.folder / ".venv").mkdir()  # as set up, so that nothing is installed
    shutil.copy(again.folder / "requirements.lock", again.folder / ".venv" / "installed.lock")
    (again.folder / TINY_RESULTS.report).unlink()
    for planned in ({"report": 1}, {}):
        assert again.planned() == planned
        said = again.run("make", "run", f"BIN={Path(sys.executable).parent}").stdout
        assert said.count("split test, % right") == 2, said  # labels motion and digit
        assert said.splitlines()[-1] == f"report: {TINY_RESULTS.report}"


@pytest.mark.parametrize(
    ("override", "rerun"),
    [
        ("evaluation.knn.k=3", AFTER_TRAINING),
        ("data.labels=[motion]", AFTER_TRAINING),
        ("data.clip.scales=[0.9]", ALL_BUT_DATA),
        ("data.decode.crf=30", FROM_DECODE),
        ("data.download.timeout_s=7", {"download": 2, **FROM_DECODE}),
        ("data.synthetic.seed=5", {"manifest": 1, "download": 2, **FROM_DECODE}),
        ("segmentation.clusters=4", {"segment": 3, "report": 1}),
        ("severe.drawn.test=8", {"severe": 3, "report": 1}),
        (
            "runs.pixel.objective.mask.ratio=0.5",
            {"pretrain": 1, "evaluate": 1, "segment": 1, "severe": 1, "report": 1},
        ),
        ("objective.epsilon=0.2", {"report": 1}),  # no run reads it; the report shows it
    ],
)
def test_a_setting_reruns_what_reads_it(
    finished: Workspace, tmp_path: Path, override: str, rerun: dict[str, int]
) -> None:
    """Catches a stage that misses a change of a setting, and one that runs again in vain."""
    changed = finished.copy(tmp_path / "changed")
    changed.compose(override)
    assert changed.planned() == rerun


@pytest.mark.parametrize(
    ("source", "rerun"),
    [
        ("pipeline/evaluation/knn.py", AFTER_TRAINING),
        ("pipeline/objectives/sinkhorn.py", {**ALL_BUT_DATA}),
        ("pipeline/videos/transcode.py", FROM_DECODE),
        ("pipeline/reporting/templates/report.css", {"report": 1}),
        ("pipeline/progress.py", {}),  # shared, and decides no result
    ],
)
def test_a_source_file_reruns_its_stages(
    finished: Workspace, tmp_path: Path, source: str, rerun: dict[str, int]
) -> None:
    """Catches results of code that is no longer there; a revert makes them valid again."""
    changed = finished.copy(tmp_path / "changed")
    path = changed.folder / source
    text = path.read_text(encoding="utf-8")
    path.write_text(text + ("\n/* */\n" if path.suffix == ".css" else "\n# a remark\n"), "utf-8")
    assert changed.planned() == rerun
    path.write_text(text, encoding="utf-8")
    assert changed.planned() == {}


@pytest.mark.parametrize(
    ("manifest", "rule"),
    [
        (DATA.manifest, "manifest"),
        (DATA.downloaded(0), "download"),
        (DATA.decoded(1), "decode"),
        (DATA.sharded(0), "shard"),
        (DATA.index, "index"),
        (TINY_RESULTS.run("pixel").pretrained, "pretrain"),
        (TINY_RESULTS.run("random").evaluated, "evaluate"),
        (TINY_RESULTS.run("pixel").segmented, "segment"),
        (TINY_RESULTS.run("sigma_mlp").severe, "severe"),
        (TINY_RESULTS.report, "report"),
    ],
)
def test_a_manifest_that_is_gone_is_made_again(
    finished: Workspace, tmp_path: Path, manifest: Path, rule: str
) -> None:
    """Catches a default target that lists too little: `Nothing to be done` after a killed stage."""
    changed = finished.copy(tmp_path / "changed")
    (changed.folder / manifest).unlink()
    assert changed.planned().get(rule) == 1


def test_going_on_equals_beginning_anew(finished: Workspace, tmp_path: Path) -> None:
    """Catches a stage that keeps what it made under other settings, and says that it is done."""
    one_run = ("~runs.pixel", "~runs.random")
    overrides = (*one_run, "data.decode.crf=30", "trainer.seed=3", "evaluation.knn.k=3")
    changed = finished.copy(tmp_path / "changed")
    changed.compose(*overrides)
    changed.snakemake("evaluated")
    anew = finished.copy(tmp_path / "anew")
    for made in ("data", "results", "downloads", ".snakemake"):
        shutil.rmtree(anew.folder / made)
    anew.compose(*overrides)
    anew.snakemake("evaluated")
    found = hashes(changed.folder, ["sigma_mlp"])
    assert found == hashes(anew.folder, ["sigma_mlp"])
    assert found != hashes(finished.folder, ["sigma_mlp"])


def _start(workspace: Workspace) -> subprocess.Popen[str]:
    """Start what `make run` starts, but for one run and up to its probes, in a process group."""
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "2", STOPPED],
        cwd=workspace.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )


def _wait_for_a_checkpoint(workspace: Workspace, process: subprocess.Popen[str]) -> None:
    folder = workspace.folder / TINY_RESULTS.run("pixel").checkpoints
    deadline = time.monotonic() + 120
    while not list(folder.glob("step-*.pt")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


LONGER = ("trainer.epochs=60", "trainer.checkpoint_every=5")
STOPPED = TINY_RESULTS.run("pixel").evaluated.as_posix()  # the run that is stopped, and its probes


@pytest.fixture(scope="module")
def uninterrupted(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of what LONGER gives in one go."""
    whole = finished.copy(tmp_path_factory.mktemp("uninterrupted") / "whole")
    whole.compose(*LONGER)
    whole.snakemake(STOPPED)
    return hashes(whole.folder, ["pixel"])


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_run_goes_on(
    finished: Workspace, uninterrupted: dict[str, str], tmp_path: Path, kind: signal.Signals
) -> None:
    """Catches a lock, a half-written file or a lost checkpoint after Ctrl-C or a kill.

    SIGTERM, too, goes to all, as Slurm sends it at a time limit: that is no failure.
    """
    stopped = finished.copy(tmp_path / "stopped")
    shutil.rmtree(stopped.folder / TINY_RESULTS.folder)
    stopped.compose(*LONGER)
    process = _start(stopped)
    try:
        _wait_for_a_checkpoint(stopped, process)
    finally:
        os.killpg(process.pid, kind)
        said = process.communicate(timeout=300)[0]
    assert process.returncode != 0
    assert "Traceback" not in said
    assert not (stopped.folder / TINY_RESULTS.run("pixel").pretrained).exists()
    if kind is signal.SIGTERM:
        assert "stopped: pretrain pixel, SIGTERM: after step" in said
        assert "returned non-zero exit status" not in said
        assert "stopped, not failed: run the same command again and it goes on" in said

    stopped.run(sys.executable, "workflow/free_lock.py")
    assert "going on after step" in stopped.snakemake(STOPPED).stdout
    assert hashes(stopped.folder, ["pixel"]) == uninterrupted


def test_videos_without_labels(finished: Workspace, tmp_path: Path) -> None:
    """Catches a probe that fails, or is silently left out, where the list has no labels."""
    mine = finished.copy(tmp_path / "mine")
    videos = sorted((mine.folder / "downloads").rglob("*.mp4"))[:6]
    lines = [f"{path.stem},{path.relative_to(mine.folder)}" for path in videos]
    (mine.folder / "list.csv").write_text("\n".join(["id,path", *lines, "gone,gone.mp4", ""]))
    given = ("name=mine", "data=folder", "data.name=mine", "data.manifest=list.csv")
    mine.compose(*given, "data.clip.stride=1", "~runs.sigma_mlp", "~runs.random")
    said = mine.snakemake().stdout
    assert "skipped" in said
    results = ExperimentLayout("mine")
    found = json.loads((mine.folder / results.run("pixel").evaluated).read_text(encoding="utf-8"))
    assert found["scores"] == []
    assert {row["probe"] for row in found["skipped"]} == {"linear", "attentive", "knn"}
    assert found["census"] == {"ok": 6, "missing": 1}
    assert "skipped" in (mine.folder / results.report).read_text(encoding="utf-8")
    lost = (mine.folder / DataLayout("mine").lost).read_text(encoding="utf-8")
    assert "gone,missing" in lost
