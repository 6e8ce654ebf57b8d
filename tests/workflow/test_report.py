"""Snakemake's own report of the finished chain."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest

from pipeline.configuration.layout import DataLayout, ExperimentLayout
from pipeline.runtime.timing import sessions

from .workspace import Workspace

pytestmark = pytest.mark.system

RESULTS = ExperimentLayout("tiny")


def test_snakemakes_report_holds_the_same_figures(finished: Workspace, tmp_path: Path) -> None:
    """Catches a section that is not marked for it, and a caption that cannot be rendered."""
    path = tmp_path / "out.zip"
    finished.snakemake("--report", str(path))
    page = (finished.folder / RESULTS.report).read_text(encoding="utf-8")
    sections = re.findall(r'<section id="([^"]+)"', page)
    assert {"runs", "curves", "prototypes", "neighbours", "time"} <= set(sections)
    with zipfile.ZipFile(path) as report:
        held = {Path(name).name: name for name in report.namelist() if "/data/" in name}
        html = report.read("out/report.html").decode()
        whole = report.read(held["report.html"]).decode()
        numbers = json.loads(report.read(held["metrics.json"]))
    assert {f"{section}.html" for section in sections} | {"evaluation.json"} <= set(held)
    assert whole == page
    assert set(numbers) == {"sigma_mlp", "pixel", "random"}
    assert "nearest to it" in html  # the caption of the prototypes


def test_every_job_of_the_chain_is_timed(finished: Workspace) -> None:
    """Catches a stage that goes round the command line's clock, and a report without it."""
    page = (finished.folder / RESULTS.report).read_text(encoding="utf-8")
    section = page.split('<section id="time"')[1].split("</section>")[0]
    assert "not timed" not in section
    data = DataLayout("synthetic_tiny")
    owners = {data.name: ("manifest", "decode-0", "index"), "tiny": ("pretrain-pixel", "report")}
    for owner, jobs in owners.items():
        for job in jobs:
            (entry,) = sessions(finished.folder / "logs" / owner / f"{job}.times.json")
            assert entry["finished"]
            assert entry["seconds"] > 0
