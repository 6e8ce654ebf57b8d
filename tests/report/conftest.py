"""One experiment for all tests of the report; it is made once."""

from __future__ import annotations

import contextlib
import io
import json

import pytest

from pipeline.configuration.layout import ExperimentLayout
from pipeline.report import report_stage

from .experiments import Experiment, Page, tiny_params, write_data, write_run


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The tiny experiment with hand-written results, real shards and real (untrained) weights."""
    folder = tmp_path_factory.mktemp("experiment")
    with contextlib.chdir(folder):
        params = tiny_params()
        write_data(params)
        for run in params.runs:
            write_run(params, run)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            report_stage.run(params)
        layout = ExperimentLayout(params.name)
        return Experiment(
            folder=folder,
            params=params,
            layout=layout,
            html=layout.report.read_text(encoding="utf-8"),
            evaluation=json.loads(layout.evaluation.read_text(encoding="utf-8")),
            printed=printed.getvalue(),
        )


@pytest.fixture(scope="session")
def page(experiment: Experiment) -> Page:
    """The page, read strictly."""
    return Page(experiment.html)
