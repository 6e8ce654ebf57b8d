"""What `snakemake -n` says of the jobs that would run."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.configuration import composition, stages
from pipeline.configuration.layout import DataLayout, ExperimentLayout
from pipeline.configuration.schema import Params
from pipeline.data.manifest import local_files
from pipeline.data.shards.index import Pictures
from pipeline.planning import plan
from pipeline.planning.plan import Job
from pipeline.runtime.checkpoint_sets import fingerprint
from pipeline.runtime.files import write_json
from pipeline.training.identity import Identity

TINY = ExperimentLayout("tiny")
PICTURES = Pictures(48, "those that were learned from")
CHANGED = (
    "Params have changed since last execution: Union of exclusive params before and now across "
)
CHANGED += "all output: before: {} now: {} "


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The tiny experiment, in a folder where nothing was made."""
    monkeypatch.chdir(tmp_path)
    return composition.parse(composition.compose(["experiment=tiny"]), place="")


def composed(*overrides: str) -> Params:
    return composition.parse(composition.compose(["experiment=tiny", *overrides]), place="")


def changed(before: str, now: str) -> str:
    """Snakemake's words for a change of params from one JSON text to another."""
    return CHANGED.format(repr(before), repr(now))


def test_a_changed_setting_is_named(params: Params) -> None:
    """Catches a reason that says no more than that something has changed."""
    before = stages.settings(params, "pretrain", "pixel")
    now = stages.settings(composed("runs.pixel.objective.mask.ratio=0.5"), "pretrain", "pixel")
    job = Job("pretrain", "pixel", changed(before, now), ())
    ratio = params.runs["pixel"].objective.mask.ratio
    assert plan.why(params, job, {}) == f"settings changed: objective.mask.ratio {ratio} -> 0.5"


def test_every_kind_of_reason_is_told(params: Params) -> None:
    """Catches a reason of Snakemake's that is not understood, or that hides another one."""
    makers = {"data/x/index.json": "index", "a.json": "pretrain"}

    def why(reason: str) -> str:
        return plan.why(params, Job("evaluate", "pixel", reason, ()), makers)

    assert why(CHANGED.format("'abc'", "'def'")) == "code changed"
    assert why(CHANGED.format("<nothing exclusive>", "'def'")) == "code changed"
    assert why("Code has changed since last execution") == "code changed"
    assert why("Updated input files: pipeline/cli/main.py, pipeline/x.py") == "code changed"
    assert why("Updated input files: list.csv") == "changed: list.csv"
    assert why("Forced execution") == "asked for"
    assert why("Set of input files has changed since last execution") == "other files go in"
    assert why("Incomplete output files: a") == "was interrupted"
    after = "Input files updated by another job: data/x/index.json, a.json"
    assert why(after) == "after index, pretrain"
    assert why(f"Missing output files: b; {after}") == "its result is not there"
    assert why(f"{after}; Code has changed since last execution") == "code changed"
    assert why("a reason of a later Snakemake") == "a reason of a later Snakemake"


def test_a_replaced_video_is_named(params: Params) -> None:
    """Catches a chunk that would be made again without a word of the file that is another."""
    video = Path("a.mp4")
    video.write_bytes(b"first")
    note = DataLayout(params.data.name).local_files(1)
    seen = {"a.mp4": (local_files.stamp_of("a.mp4"), "0" * 64)}
    local_files.write_note(note, "", [("path", "a.mp4")], seen)
    video.write_bytes(b"another")
    reason = CHANGED.format("''", repr(local_files.state(note)))
    assert plan.why(params, Job("download", "1", reason, ()), {}) == "replaced since: a.mp4"


def test_hundreds_of_chunks_are_one_line(params: Params) -> None:
    """Catches a plan that does not fit a screen: 400 chunks of four stages, and 9 runs."""
    jobs = [
        Job(rule, str(chunk), "Missing output files: x", ())
        for rule in ("download", "decode", "shard")
        for chunk in range(400)
    ]
    jobs += [Job("pretrain", f"run{n}", "Missing output files: x", ()) for n in range(9)]
    jobs += [Job("all", "", "Input files updated by another job: x", ())]
    said = plan.table(params, jobs).splitlines()
    assert len(said) == 5
    assert said[1].startswith("  download  400 chunks ")
    assert "run0, run1" in said[4]
    assert max(map(len, said)) < 120


def finished(params: Params, run: str, seconds: float, **changes: object) -> Identity:
    """Put down the manifest of a run's finished training; return what it is told by."""
    identity = Identity.of(params, run, PICTURES)
    manifest = {
        "sessions": [{"seconds": seconds / 3}, {"seconds": seconds * 2 / 3}],
        "steps": 3,
        "fingerprint": fingerprint(identity.settings),
        "code": identity.code,
        "pictures_sha256": PICTURES.sha256,
    }
    write_json(ExperimentLayout(params.name).run(run).pretrained, manifest | changes)
    return identity


def noted(params: Params, pictures: Pictures = PICTURES) -> None:
    """Put down what the index stage notes of the pictures."""
    splits = {"splits": list(params.data.pretrain_splits)}
    write_json(DataLayout(params.data.name).pictures, pictures._asdict() | splits)


def planned(params: Params, *rules: str) -> str:
    """Return what is said where the runs' trainings, and these rules, would run."""
    jobs = [Job(rule, "", "Updated input files: list.csv", ("x",)) for rule in rules]
    after = "Input files updated by another job: x"
    jobs += [Job("pretrain", run, after, ()) for run in params.runs]
    return plan.table(params, jobs)


def test_training_that_is_repeated_is_counted(params: Params) -> None:
    """Catches a plan that repeats a week of training without a word, and one that threatens to."""
    noted(params)
    finished(params, "pixel", 9000.0)
    finished(params, "random", 0.0)
    other = composed("runs.pixel.objective.mask.ratio=0.5")
    said = planned(other)
    assert "repeats 2.5 h of training" in said
    assert said.endswith("\n2.5 h of finished training would be repeated.")
    for rules in ((), ("index",)):
        said = planned(params, *rules)
        assert "nothing is repeated" in said
        assert "would be repeated" not in said
    noted(params, Pictures(5, "others"))
    assert "\n2.5 h of" in planned(params, "index")


def test_what_cannot_be_known_is_said_to_be_the_most(params: Params) -> None:
    """Catches a number that a corrected label does not cost; the list decides the pictures."""
    noted(params)
    finished(params, "pixel", 9000.0)
    said = planned(params, "manifest", "index")
    assert "after index; repeats at most 2.5 h of training" in said
    assert said.endswith("\nAt most 2.5 h of finished training would be repeated.")
    said = planned(composed("runs.pixel.objective.mask.ratio=0.5"), "manifest", "index")
    assert "\n2.5 h of" in said


def test_trainings_that_come_back_are_not_counted(params: Params) -> None:
    """Catches hours of a training that lies aside, waits for a decision, or has another name."""
    noted(params)
    identity = finished(params, "pixel", 9000.0, fingerprint="another")
    aside = TINY.run("pixel").checkpoints / "set-aside/001-abc/set.json"
    write_json(aside, {**asdict(identity), "step": 3, "seconds": 9000.0, "date": ""})
    assert "trained before: nothing is repeated" in planned(params)
    aside.unlink()
    finished(params, "pixel", 9000.0, code={})
    assert "on_code_change=stop" in planned(params)
    assert "on_code_change=resume" in planned(composed("trainer.on_code_change=resume"))
    assert "\n2.5 h of" in planned(composed("trainer.on_code_change=restart"))
    finished(params, "pixel", 9000.0)
    TINY.run("pixel").pretrained.rename(TINY.run("pixel").checkpoints / "finished.json")
    assert f"copied from {TINY.run('pixel').folder}" in planned(composed("name=another"))


def test_only_what_is_different_is_told() -> None:
    """Catches settings that are the same, or are called by where they stand in params.yaml."""
    old = {"runs.a": {"trainer": {"epochs": 1, "seed": 0}}, "data.clip": {"scales": [1.0]}}
    new = json.loads(json.dumps(old))
    assert plan.differences(old, new, "a") == []
    new["runs.a"]["trainer"]["epochs"] = 2
    new["data.clip"]["flip"] = True
    found = ["data.clip.flip nothing -> true", "trainer.epochs 1 -> 2"]
    assert plan.differences(old, new, "a") == found


def test_the_table_takes_the_place_of_the_second_count() -> None:
    """Catches a run that is told twice, and a real run in which the count of jobs is lost."""

    def record(message: str, **fields: object) -> logging.LogRecord:
        made = logging.LogRecord("", logging.INFO, "", 0, message, (), None)
        made.__dict__.update(fields)
        return made

    dry = plan.DryRun(lambda jobs: f"{len(jobs)} job of {jobs[0].part}")
    first, second = (record("Job stats", event="run_info") for _ in range(2))
    assert dry(first)
    assert dry(
        record("", event="job_info", rule_name="pretrain", wildcards={"run": "a"}, reason="",
               output=["x"])
    )  # fmt: skip
    assert dry(second)
    assert first.getMessage() == "Job stats"
    assert second.getMessage() == "1 job of a"
    assert not dry(record("Reasons:\n    (check individual jobs above for details)"))
    assert dry(record("This was a dry-run"))
