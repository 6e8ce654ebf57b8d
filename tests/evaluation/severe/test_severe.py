"""The whole stage on small drawn data sets, with an untrained encoder."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.configuration import composition
from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Clip, DrawnClips, FinetunedEncoder, Params, Severe
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.evaluation.severe import columns, drawn, frozen
from pipeline.runtime.files import sha256_file
from pipeline.runtime.interruption import ResumeLater

from ..conftest import EMBEDDED, RUN, scores_of

severe = partial(scores_of, "severe")


@pytest.fixture
def params(embedded: Path, embedded_params: Params) -> Params:
    return embedded_params


def changed(params: Params, **settings: Any) -> Params:
    return params.model_copy(update={"severe": params.severe.model_copy(update=settings)})


def test_all_columns_are_there_and_their_mean(params: Params) -> None:
    """A column without its counterpart on the embedded data; counts of other clips than were
    scored; a score that is not that of the recorded answers; hashes of other files."""
    found = severe(params)
    files = RunLayout(params.name, RUN)
    rows = {row["column"]: row for row in found["scores"]}
    assert list(rows) == list(columns.COLUMNS)
    values = {name: row["value"] for name, row in rows.items()}
    assert found["mean"] == pytest.approx(columns.mean(values))
    table = pq.read_table(files.rows("severe")).to_pylist()
    sizes = params.severe.drawn
    for row in rows.values():
        mine = [line for line in table if line["task"] == row["task"]]
        own = row["column"] == "ucf_1000"
        assert row["scored"] == row["of"] == len(mine) == (EMBEDDED["test"] if own else sizes.test)
        assert row["train_clips"] == (EMBEDDED["train"] if own else sizes.train)
        if row["metric"] == "top1":
            names = found["classes"][row["task"]]
            right = [names[int(np.argmax(line["scores"]))] == line["true"] for line in mine]
            assert np.mean(right) == row["value"]
        assert found["inputs"][row["task"]]
    assert rows["ucf_rc"]["metric"] == "relative_error"
    assert found["inputs"]["few_labels"] == sha256_file(DataLayout(params.data.name).index)
    assert found["outputs"]["clips"] == sha256_file(files.rows("severe"))
    assert found["skipped"] == []
    assert not files.work("severe").exists()


def test_an_interrupted_job_goes_on(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed job that does finished tasks again, takes those of other settings for its own, or
    ends with other numbers."""
    whole = severe(params)
    asked: list[str] = []
    answer = frozen.answer

    def until_killed(problem: Any, *rest: Any) -> Any:
        if len(asked) == 3:
            raise ResumeLater("SIGTERM", "here")
        asked.append(problem.task.name)
        return answer(problem, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(frozen, "answer", until_killed)
        with pytest.raises(SystemExit):
            severe(params)
        patch.setattr(frozen, "answer", lambda p, *a: asked.append(p.task.name) or answer(p, *a))
        kept = shutil.copytree(RunLayout(params.name, RUN).work("severe"), Path("kept"))
        assert severe(params) == whole
        assert asked == [task.name for task in params.severe.tasks]
        shutil.copytree(kept, RunLayout(params.name, RUN).work("severe"))
        method = params.severe.method.model_copy(update={"ridge": (3.0,)})
        severe(changed(params, method=method))
    assert len(asked) == 2 * len(params.severe.tasks)


def test_drawn_data_sets_are_made_once_whole_and_anew_for_other_settings(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs at a time that draw over each other; clips of other settings taken for these; test
    digits that were seen in training."""
    synthetic = params.data.synthetic
    assert synthetic is not None
    size = params.severe.drawn
    arguments = (params.data.name, "objects", synthetic, params.data.clip, size)
    calls = []
    draw = drawn._draw

    def meanwhile(folder: Path, *rest: Any) -> None:
        """Draw while another run has just finished the same."""
        calls.append(folder)
        draw(folder, *rest)
        if len(calls) == 1:
            drawn.data_set(*arguments)

    monkeypatch.setattr(drawn, "_draw", meanwhile)
    first = drawn.data_set(*arguments)
    assert len(calls) == 2
    assert drawn.data_set(*arguments).folder == first.folder
    assert len(calls) == 2
    assert [path.name for path in first.folder.parent.iterdir()] == ["objects"]  # no leftovers
    for shard in first.shards:
        assert sha256_file(first.folder / shard.name) == shard.sha256
    assert first.splits == {"train": size.train, "test": size.test}
    clip = Clip(**{**params.data.clip.model_dump(), "stride": 2})
    other = drawn.data_set(*arguments[:3], clip, size)
    assert other.folder != first.folder


def test_other_data_sets_have_their_tasks_skipped(params: Params) -> None:
    """An error for everybody whose data set is not the embedded one, or a mean of two columns."""
    tasks = [t for t in params.severe.tasks if isinstance(t.clips, DrawnClips)][:2]
    mine = changed(params, tasks=tuple(tasks))
    mine = mine.model_copy(update={"data": mine.data.model_copy(update={"synthetic": None})})
    found = severe(mine)
    assert (found["scores"], found["mean"]) == ([], None)
    assert [note["task"] for note in found["skipped"]] == [task.name for task in tasks]


@pytest.mark.system
def test_fine_tuning_answers_the_same_questions(params: Params) -> None:
    """Targets of one kind given to a head of another; counts that come back as logarithms; a
    fine-tuning that knows nothing of its train clips."""
    body = yaml.safe_load(composition.compose(["severe=embedded_finetuned"]))["severe"]
    method = Severe.model_validate(body).method
    assert isinstance(method, FinetunedEncoder)
    quick = method.model_copy(update={"epochs": 2, "warmup_epochs": 0, "batch_size": 8})
    kinds = {task.answer: task for task in reversed(params.severe.tasks)}
    found = severe(changed(params, method=quick, tasks=tuple(kinds.values())))
    table = pq.read_table(RunLayout(params.name, RUN).rows("severe")).to_pylist()
    assert {row["metric"] for row in found["scores"]} == {
        "top1", "average_precision", "relative_error"
    }  # fmt: skip
    for row in found["scores"]:
        numbers = np.array([line["scores"] for line in table if line["task"] == row["task"]])
        if row["metric"] == "relative_error":
            assert ((numbers > 0.5) & (numbers < 8)).all()  # counts are 1 to 4
        elif row["metric"] == "top1":
            np.testing.assert_allclose(np.exp(numbers).sum(1), 1, atol=1e-5)
        else:
            assert ((numbers > 0) & (numbers < 1)).all()


def test_a_stored_data_set_is_named_where_it_is_missing(params: Params) -> None:
    """A traceback for a data set whose shards have not been made."""
    task = params.severe.tasks[2].model_dump()
    task["clips"]["data"] = "gym99"
    body = params.severe.model_dump() | {"tasks": [task]}
    mine = params.model_copy(update={"severe": Severe.model_validate(body)})
    assert mine.severe.other_data == ("gym99",)
    with pytest.raises(UserError, match="gym99"):
        severe(mine)
    shutil.copytree(DataLayout(params.data.name).shards, DataLayout("gym99").shards)
    assert severe(mine)["scores"][0]["data"] == DatasetIndex.load(DataLayout("gym99").shards).name
