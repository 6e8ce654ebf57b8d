"""Snakemake and DVC agree on what is done, whichever of them did it; with the real commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from pipeline.configuration.layout import DataLayout, ExperimentLayout
from pipeline.configuration.stages import STAGES

from .workspace import Workspace

pytestmark = pytest.mark.system

# One encoder, trained for six steps, on the data that the fixture `finished` has made.
ONE = (
    *("experiment=one", "data=synthetic_tiny", "evaluation=probes"),
    *("segmentation=none", "severe=none"),
    *("model.width=32", "model.depth=1", "model.heads=2"),
    *("model.decoder_width=16", "model.decoder_depth=1", "model.decoder_heads=1"),
    *("trainer.epochs=2", "trainer.warmup_epochs=1", "trainer.batch_size=16"),
    *("trainer.log_every=1", "trainer.checkpoint_every=2"),
)
DATA = DataLayout("synthetic_tiny")
RESULTS = ExperimentLayout("one")
RUN = RESULTS.run("encoder")
# Have nothing to do here.
IDLE = {"segment", "severe", "retrieve", "few_shot", "order", "corrupt", "propagate", "read_out"}
IDLE |= {"surprise"}
BY_RUN = {"pretrain", "evaluate", "segment", "severe"}


def compose(workspace: Workspace, *overrides: str) -> None:
    workspace.run(sys.executable, "-m", "pipeline", "compose", *ONE, *overrides)


def pipeline(
    workspace: Workspace, *words: str, check: bool = True
) -> subprocess.CompletedProcess[str]:
    return workspace.run(sys.executable, "-m", "pipeline", *words, check=check)


def git(workspace: Workspace, *words: str) -> str:
    me = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    return workspace.run("git", *me, *words).stdout


def commit(workspace: Workspace) -> None:
    git(workspace, "add", "--all")
    git(workspace, "commit", "--quiet", "--message", "results")


def link_environment(workspace: Workspace) -> None:
    """Put .venv where `make` would have made it; git is not to see the link."""
    (workspace.folder / ".venv").symlink_to(sys.prefix)
    with (workspace.folder / ".git" / "info" / "exclude").open("a") as file:
        file.write(".venv\n")


def changed(workspace: Workspace) -> set[str]:
    """Return the rules of which DVC would run stages: those changed, and what depends on them."""
    status = json.loads(workspace.dvc("status", "--json").stdout)
    edges = re.findall(r'"(\S+)" -> "(\S+)"', workspace.dvc("dag", "--dot").stdout)
    found, waiting = set(status), list(status)
    while waiting:
        stage = waiting.pop()
        new = {after for before, after in edges if before == stage} - found
        found |= new
        waiting += new
    return {stage.split("@")[0] for stage in found}


def agree_that_all_is_done(workspace: Workspace) -> None:
    assert json.loads(workspace.dvc("status", "--json").stdout) == {}
    assert workspace.planned() == {}


@pytest.fixture(scope="module")
def recorded(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """What Snakemake made is recorded, committed and pushed; not to be changed (`copy` it)."""
    workspace = finished.copy(tmp_path_factory.mktemp("versions") / "recorded")
    shutil.rmtree(workspace.folder / "results")
    workspace.run("git", "init", "--quiet")
    link_environment(workspace)
    compose(workspace)
    commit(workspace)  # results know the revision that made them
    workspace.snakemake()
    pipeline(workspace, "versions", "record")
    commit(workspace)
    workspace.dvc("push")
    return workspace


@pytest.fixture
def copy(recorded: Workspace, tmp_path: Path) -> Workspace:
    return recorded.copy(tmp_path / "copy")


def test_recording_makes_them_agree(recorded: Workspace) -> None:
    """Catches outputs that DVC does not version, and results that git would keep."""
    agree_that_all_is_done(recorded)
    lock = yaml.safe_load((recorded.folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    stages = {f"{n}@encoder" if n in BY_RUN else n for n in STAGES if n not in IDLE}
    assert set(lock) == {"code", *stages} - {
        "segment@encoder",
        "severe@encoder",
    }  # with nothing to do
    outs = {out["path"] for stage in lock.values() for out in stage["outs"]}
    for path in (DATA.shards, RUN.weights, RUN.checkpoints, RUN.features, RUN.curves):
        assert path.as_posix() in outs
    kept = git(recorded, "ls-files", "results", "data").splitlines()
    assert kept == [RESULTS.metrics.as_posix()]
    assert (recorded.folder.parent / "dvc-storage").is_dir()  # the remote


def test_metrics_hold_every_benchmark(finished: Workspace) -> None:
    """Catches a benchmark that `dvc metrics diff` would not show, or shows with other numbers."""
    layout = ExperimentLayout("tiny")
    metrics = json.loads((finished.folder / layout.metrics).read_text(encoding="utf-8"))
    for run, found in metrics.items():
        body = json.loads(
            (finished.folder / layout.run(run).result("severe")).read_text(encoding="utf-8")
        )
        assert found["severe"] == {row["task"]: row["value"] for row in body["scores"]}
        body = json.loads(
            (finished.folder / layout.run(run).result("segmentation")).read_text(encoding="utf-8")
        )
        assert sorted(found["segmentation"].values()) == sorted(
            row["miou"] for row in body["scores"]
        )
        assert {"motion", "digit"} <= found.keys()


def test_recording_is_refused_while_something_is_to_do(copy: Workspace) -> None:
    """Catches a dvc.lock that calls results of other settings, or half of them, up to date."""
    before = (copy.folder / "dvc.lock").read_bytes()

    def refused(*named: str) -> None:
        done = pipeline(copy, "versions", "record", check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stdout
        for word in (*named, "remedy:"):
            assert word in done.stdout
        assert (copy.folder / "dvc.lock").read_bytes() == before

    compose(copy, "evaluation.knn.k=3")
    refused("evaluate 1", "report 1", "snakemake --cores all")
    compose(copy)
    lock = copy.folder / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("x\n", encoding="utf-8")
    refused("at work", "free_lock.py")
    shutil.rmtree(lock.parent)
    other = copy.folder / RESULTS.run("former").pretrained
    other.parent.mkdir()
    other.write_text("{}", encoding="utf-8")
    refused("former")


def edit(workspace: Workspace, source: str, line: str) -> None:
    """Append to a file of the package, and tell DVC what it means now."""
    with (workspace.folder / source).open("a", encoding="utf-8") as file:
        file.write(line)
    workspace.dvc("repro", "code")


@pytest.mark.parametrize(
    ("overrides", "source"),
    [
        (("trainer.epochs=3",), None),
        (("evaluation.knn.k=3",), None),
        (("data.decode.crf=30",), None),
        ((), "pipeline/evaluation/recognition/knn.py"),
        ((), "pipeline/method/sinkhorn.py"),
    ],
    ids=str,
)
def test_a_change_runs_the_same_stages_under_both(
    copy: Workspace, overrides: Sequence[str], source: str | None
) -> None:
    """Catches a setting or a source file that only one of the two has as an input of a stage."""
    compose(copy, *overrides)
    copy.dvc("repro", "code")  # which runs need which others; no job of Snakemake's
    if source:
        edit(copy, source, "# a remark\n")
        agree_that_all_is_done(copy)
        edit(copy, source, "X = 1\n")
    planned = set(copy.planned())
    assert planned
    assert changed(copy) == planned


def test_what_was_deleted_comes_back_by_checkout(copy: Workspace) -> None:
    """Catches time stamps of a checkout by which Snakemake would make everything again."""
    for folder in (DATA.shards, DATA.derived / "decoded", RESULTS.folder / "runs"):
        shutil.rmtree(copy.folder / folder)
    assert copy.planned()
    copy.dvc("checkout")
    agree_that_all_is_done(copy)
    assert (copy.folder / RUN.checkpoints).is_dir()


@pytest.fixture
def clone(recorded: Workspace) -> Workspace:
    """A fresh clone beside the recorded checkout, in which nothing was run or fetched."""
    folder = recorded.folder.with_name(f"clone-{time.monotonic_ns()}")
    subprocess.run(["git", "clone", "--quiet", recorded.folder, folder], check=True)
    workspace = Workspace(folder)
    link_environment(workspace)
    return workspace


def test_a_fresh_clone_has_everything_to_do(clone: Workspace) -> None:
    """Catches a newcomer's first `make run` that stops at what git brought."""
    planned = clone.planned()
    assert set(planned) == set(STAGES) - IDLE


def test_dvc_makes_the_same_from_a_clean_clone(clone: Workspace, recorded: Workspace) -> None:
    """Catches a dvc.yaml that cannot be reproduced, or disagrees with Snakemake after it; and
    results that are others in another checkout."""
    said = clone.dvc("repro").stdout
    assert f"report: {RESULTS.report}" in said
    agree_that_all_is_done(clone)
    assert "up to date" in clone.dvc("repro").stdout
    for path in (RESULTS.metrics, RUN.weights, RUN.metrics, RUN.predictions, DATA.index):
        assert (clone.folder / path).read_bytes() == (recorded.folder / path).read_bytes()
    assert git(clone, "status", "--short", RESULTS.metrics.as_posix(), "dvc.yaml") == ""
    metrics = json.loads(clone.dvc("metrics", "show", "--json").stdout)
    (shown,) = metrics[""]["data"].values()
    assert set(shown["data"]) == {"encoder"}


def test_a_clone_is_blessed_after_a_pull(clone: Workspace) -> None:
    """Catches results that count as made though nobody looked whether they are, and a bless that
    looks away."""
    clone.dvc("pull")
    stopped = clone.snakemake(check=False)
    assert stopped.returncode != 0
    assert "versions bless" in stopped.stdout
    assert "Traceback" not in stopped.stdout
    assert "Nothing to be done" not in stopped.stdout
    clone.snakemake("--unlock")  # clears up, so is let through

    compose(clone, "evaluation.knn.k=3")
    stopped = clone.snakemake("--dry-run", check=False)
    assert stopped.returncode != 0
    assert "versions bless" in stopped.stdout
    refused = pipeline(clone, "versions", "bless", check=False)
    assert refused.returncode == 2
    assert "evaluate@encoder" in refused.stdout
    assert "remedy:" in refused.stdout
    assert not list((clone.folder / ".snakemake").glob("metadata/*"))

    compose(clone)
    pipeline(clone, "versions", "bless")
    agree_that_all_is_done(clone)
    traced = pipeline(clone, "trace", RUN.result("evaluation").as_posix()).stdout
    assert "videos: 88 not here" in traced  # downloads are not versioned


def test_bless_looks_at_what_dvc_does_not_see(copy: Workspace) -> None:
    """Catches weights from elsewhere, or another data set, that changed behind DVC's back."""
    body = json.loads((copy.folder / RUN.pretrained).read_text(encoding="utf-8"))
    body["weights"] = {"kind": "a model", "path": "theirs.pt", "sha256": {"theirs.pt": "0" * 64}}
    (copy.folder / RUN.pretrained).write_text(json.dumps(body), encoding="utf-8")
    (copy.folder / "theirs.pt").write_bytes(b"x")
    copy.dvc("commit", "--force")
    refused = pipeline(copy, "versions", "bless", check=False)
    assert refused.returncode == 2
    assert "theirs.pt" in refused.stdout


def test_experiments(copy: Workspace) -> None:
    """Catches settings that do not reach an experiment, and one that records another's scores."""
    settings = [word for override in ONE for word in ("-S", override)]

    def scores() -> dict[str, dict[str, float]]:
        text = (copy.folder / RESULTS.metrics).read_text(encoding="utf-8")
        found: dict[str, dict[str, float]] = json.loads(text)["encoder"]
        return found

    own = f"PATH={Path(sys.executable).parent}:{os.environ['PATH']}"  # an activated environment
    dvc = ("env", own, sys.executable, "-m", "dvc")
    before = scores()
    copy.dvc("exp", "run", *settings, "-S", "objective=pixel_demo", "--name", "pixel")
    agree_that_all_is_done(copy)
    pixel = scores()
    assert pixel != before
    diff = json.loads(copy.dvc("metrics", "diff", "--json").stdout)
    assert RESULTS.metrics.as_posix() in str(diff)

    git(copy, "checkout", "--quiet", "--", ".")
    copy.dvc("checkout")
    for name, k in (("few", 3), ("many", 5)):
        override = f"evaluation.knn.k={k}"
        copy.run(*dvc, "exp", "run", "--queue", *settings, "-S", override, "--name", name)
    copy.run(*dvc, "exp", "run", "--run-all", "--jobs", "1")
    shown = json.loads(copy.dvc("exp", "show", "--json").stdout)
    rows = {
        row["name"]: row["revs"][0]["data"]
        for commit in shown
        for row in commit.get("experiments") or ()
    }
    assert {"pixel", "few", "many"} <= set(rows)
    params = {name: row["params"]["params.yaml"]["data"] for name, row in rows.items()}
    assert params["pixel"]["objective"]["name"] == "pixel"
    for name, k in (("few", 3), ("many", 5)):
        assert params[name]["evaluation"]["knn"]["k"] == k
        found = rows[name]["metrics"][RESULTS.metrics.as_posix()]["data"]["encoder"]
        assert found["motion"]["linear"] == before["motion"]["linear"]

    copy.dvc("plots", "diff", "HEAD", "pixel")
    page = (copy.folder / "dvc_plots" / "index.html").read_text(encoding="utf-8")
    assert "metrics.csv" in page

    copy.dvc("exp", "apply", "pixel")
    assert scores() == pixel
    pipeline(copy, "versions", "bless")
    agree_that_all_is_done(copy)


def test_a_killed_stage_goes_on_under_dvc(copy: Workspace) -> None:
    """Catches DVC's removing the checkpoints before it runs the stage again."""
    compose(copy, "trainer.epochs=200", "trainer.checkpoint_every=5")  # see test_going_on.LONGER
    process = copy.start("dvc", "repro", "pretrain@encoder")
    try:
        copy.wait_for(f"{RUN.checkpoints}/step-0000002*.pt", process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=300)
    assert not (copy.folder / RUN.pretrained).exists()
    copy.run(sys.executable, "workflow/free_lock.py")
    assert "going on after step" in copy.dvc("repro", "pretrain@encoder").stdout
    manifest = json.loads((copy.folder / RUN.pretrained).read_text(encoding="utf-8"))
    assert len(manifest["sessions"]) == 2
    assert manifest["steps"] == 600
