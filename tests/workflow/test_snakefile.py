"""What the rules look like, and what they refuse, before a job runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.configuration import composition
from pipeline.configuration.stages import STAGES
from pipeline.errors import UserError
from pipeline.planning import snapshot

from .workspace import Workspace


def test_the_snakefile_is_a_table_of_contents(project: Path) -> None:
    """Catches logic that creeps into the Snakefile, and rules without the common parts."""
    assert len((project / "Snakefile").read_text(encoding="utf-8").splitlines()) < 80
    for stage in [*(name for name in STAGES if not STAGES[name].benchmark), "benchmarks"]:
        text = (project / "workflow" / "rules" / f"{stage}.smk").read_text(encoding="utf-8")
        name, argument = stage, f'"{stage}"'
        if stage == "benchmarks":  # one rule for all of them
            name, argument = "{params.stage}", "benchmark.stage"
        else:
            one, several = f"\nrule {stage}:\n", f'rule_name("{stage}", files)'  # of data sets
            assert one in f"\n{text}" or several in text
        code = f"code=stages.code_sha256({argument})"
        for part in (code, "log:", "params:", "mem_mb=", "runtime="):
            assert part in text, f"{stage}: {part}"
        commands = re.findall(r'shell:\n +"(.*)"', text)
        assert len(commands) == 1
        assert commands[0].removeprefix("exec ").startswith(f"python -m pipeline {name} ")


def test_everything_is_planned(fresh: Workspace) -> None:
    """Catches a rule that nothing asks for: a job per chunk or run, one of the others."""
    params = composition.load(fresh.folder / "params.yaml")
    jobs = {"chunk": params.data.chunks, "run": len(params.runs)}
    assert fresh.planned() == {
        name: jobs[stage.per[0]] if stage.per else 1
        for name, stage in STAGES.items()
        if stage.benchmark is None or stage.benchmark.runs(params)
    }


def test_a_bad_configuration_is_one_message(fresh: Workspace) -> None:
    """Catches Snakemake's traceback around what is wrong in params.yaml."""
    path = fresh.folder / "params.yaml"
    text = path.read_text(encoding="utf-8")
    for before, after, named in (
        ("chunks: 2", "chunks: 0", "data.chunks"),
        ("name: tiny", "name: [", "not valid YAML"),
        ("name: tiny", "name: tiny\nnmae: x", "nmae: unknown key"),
    ):
        assert before in text
        path.write_text(text.replace(before, after), encoding="utf-8")
        with pytest.raises(UserError, match=named):  # as the Snakefile asks for them
            snapshot.planned(path)
    done = fresh.snakemake(check=False)
    assert done.returncode != 0
    assert named in done.stdout
    assert "params.yaml" in done.stdout
    assert "Traceback" not in done.stdout
    assert len(done.stdout.splitlines()) < 15


def test_duplicate_ids_are_one_message(fresh: Workspace) -> None:
    """Catches a list that is refused with a traceback, or accepted, or with one row named."""
    rows = "id,path\na,1.mp4\nb,2.mp4\na,3.mp4\nb,4.mp4\n"
    (fresh.folder / "list.csv").write_text(rows, encoding="utf-8")
    fresh.compose("data=folder", "data.manifest=list.csv")
    done = fresh.snakemake(check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    said = done.stdout.split("Exiting because a job execution failed")[1]  # said at the end, too
    assert "list.csv" in said
    assert "line 4" in said
    assert "line 5" in said


def test_a_missing_list_is_one_message(fresh: Workspace) -> None:
    """Catches Snakemake's MissingInputException without a hint to data.manifest."""
    fresh.compose("data=folder", "data.manifest=nowhere.csv")
    done = fresh.snakemake(check=False)
    assert done.returncode != 0
    assert "nowhere.csv" in done.stdout
    assert "data.manifest" in done.stdout
    assert "Traceback" not in done.stdout
