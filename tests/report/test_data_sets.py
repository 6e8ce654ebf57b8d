"""Further data sets in the report: a block for each, and one table of all."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pipeline.cli.lineage.chain import problems
from pipeline.configuration import composition
from pipeline.configuration.layout import DataLayout, ExperimentLayout
from pipeline.configuration.schema import Params
from pipeline.configuration.schema.method import Network
from pipeline.errors import UserError
from pipeline.report import data_sets, report_stage, results
from pipeline.runtime.files import read_json, sha256_file, write_json

from .experiments import TOP1, Experiment, Page, write_data


@pytest.fixture(scope="module")
def folder(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment with its scores on a second data set, which are the same but for k-NN's."""
    folder = tmp_path_factory.mktemp("two") / "project"
    shutil.copytree(experiment.folder, folder)
    with contextlib.chdir(folder):
        params = params_of_two()
        write_data(params.on("second"))
        index = sha256_file(DataLayout("second").index)
        layout = ExperimentLayout(params.name)
        for run in params.runs:
            first, second = layout.run(run), layout.run(run, "second")
            body = read_json(first.result("evaluation"))
            body["inputs"]["index"] = index
            body["scores"][1]["chosen"] = {"k": 5, "chosen_on": "val"}
            write_json(second.result("evaluation"), body)
            shutil.copy(first.predictions, second.predictions)
    return folder


def params_of_two() -> Params:
    second = ("+data@evaluation_data.second=synthetic_tiny", "evaluation_data.second.name=second")
    overrides = ["experiment=tiny", "data.labels=[motion,digit,weather]", *second]
    return composition.validate(yaml.safe_load(composition.compose(overrides)), place="test")


def test_each_data_set_has_its_block_and_all_are_in_one_table(folder: Path) -> None:
    """Catches scores of one data set that stand under another, and a page that is not whole."""
    with contextlib.chdir(folder):
        params, printed = params_of_two(), io.StringIO()
        with contextlib.redirect_stdout(printed):
            report_stage.run(params)
        layout = ExperimentLayout(params.name)
        page = Page(layout.report.read_text(encoding="utf-8"))
        metrics = read_json(layout.metrics)
        evaluation = read_json(layout.evaluation)
        assert problems(layout.evaluation) == []
        assert (layout.figures / "data-second.html").is_file()
    ids = [element.attributes["id"] for element in page.all("section") if element.attributes]
    assert ids.index("overview") < ids.index("runs") < ids.index("data-second")
    every = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(every) == len(set(every))
    for run, (linear, _) in TOP1.items():
        assert metrics[run]["motion"]["linear"] == metrics[run]["second/motion"]["linear"] == linear
    assert [each["data"]["name"] for each in evaluation["further"]] == ["second"]
    assert "on second" in printed.getvalue()
    assert "All data sets" in printed.getvalue()


def test_a_cell_says_what_it_is_of(folder: Path) -> None:
    """Catches a table whose scores hide on how many clips, and by which setting."""
    with contextlib.chdir(folder):
        table = data_sets.overview(results.read(params_of_two()))
    assert table is not None
    groups = [column.group for column in table.columns]
    assert groups[:2] == ["synthetic_tiny: motion"] * 2
    assert groups[2:4] == ["second: motion"] * 2
    knn = table.runs[0].cells[3]
    assert [text for text, _ in knn.notes[-2:]] == ["80 of 85", "k 5"]
    assert knn.notes[-1][1] == "chosen on val"


def test_the_table_says_what_an_encoder_sees(folder: Path) -> None:
    """Catches a row of another's network that does not tell how it was shown the videos."""
    with contextlib.chdir(folder):
        found = results.read(params_of_two())
    first, *others = found.runs
    network = Network(config={}, mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 0.5), pooling="own")
    model = first.settings.model.model_copy(update={"network": network, "tube": (1, 16, 16)})
    run = replace(first, settings=first.settings.model_copy(update={"model": model}))
    table = data_sets.overview(replace(found, runs=(run, *others)))
    assert table is not None
    assert [line.description for line in table.runs[:2]] == [
        "8 frames of 32×32 pixels, stride 1, tubes of 1×16×16, mean 0.50/0.50/0.50, deviation "
        "0.25/0.50/0.50, pooled by itself",
        "8 frames of 32×32 pixels, stride 1, tubes of 2×8×8",
    ]


def test_scores_of_another_data_set_are_refused(folder: Path) -> None:
    """Catches a report of scores that were taken on another version of the further data set."""
    with contextlib.chdir(folder):
        params = params_of_two()
        place = ExperimentLayout(params.name).run("pixel", "second").result("evaluation")
        before = place.read_text(encoding="utf-8")
        body = json.loads(before)
        body["inputs"]["index"] = "0" * 64
        write_json(place, body)
        with pytest.raises(UserError, match="another index") as raised:
            report_stage.run(params)
        place.write_text(before, encoding="utf-8")
    assert "evaluate --run pixel --data second" in str(raised.value)
