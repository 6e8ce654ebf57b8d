"""A training on a mixture: what it sees, how it goes on, and what makes it begin anew."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest

from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Params
from pipeline.data.load import loader
from pipeline.data.records import ChunkManifest
from pipeline.data.shards import index_stage, shard_stage
from pipeline.errors import UserError
from pipeline.planning import repetition
from pipeline.runtime.files import read_json
from pipeline.training import pretrain_stage
from pipeline.training.identity import Identity
from tests.training.conftest import few
from tests.training.interrupted import interrupt_step, outcome

Compose = Callable[..., Params]
WEIGHTS = "trainer.mixture={column: source, weights: {few: 3, 7: 1}}"  # 7: a number for YAML
SETTINGS = (WEIGHTS, "trainer.epochs=8", "trainer.batch_size=8", "trainer.checkpoint_every=5")


def label(params: Params, source: Callable[[int], str], other: str = "x") -> None:
    """Write the column `source` of each clip, by its number, and pack and list the clips anew."""
    layout = DataLayout(params.data.name)
    manifest = ChunkManifest.read(layout.decoded(0))
    for number, clip in enumerate(manifest.clips):
        clip.labels = {"label": other, "source": source(number)}
    manifest.write(layout.decoded(0))
    shard_stage.run(params, 0)
    index_stage.run(params)


@pytest.fixture
def params(compose: Compose) -> Params:
    """The settings of 24 steps on a mixture."""
    return compose(*SETTINGS)


def test_goes_on_bit_for_bit(
    params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches shares or orders that an interruption changes, and a mixture that the training is
    not given: what it says and writes down are the clips that its batches held."""
    taken: Counter[str] = Counter()
    original_batch = loader.PretrainingSteps.__getitem__

    def counted(self: loader.PretrainingSteps, step: int) -> loader.Batch:
        batch = original_batch(self, step)
        sources = {entry.id: entry.labels["source"] for entry in self.clips.entries}
        taken.update(sources[name] for name in batch.ids)
        return batch

    with monkeypatch.context() as patched:
        patched.setattr(loader.PretrainingSteps, "__getitem__", counted)
        pretrain_stage.run(params, "pixel")
    assert taken == {"few": 144, "7": 48}  # 24 steps of 8, three quarters of them
    said = "a mixture by source: 7 25.0% (18 clips, each 2.7 times), few 75.0% (6 clips, each 24.0"
    assert said in capsys.readouterr().err
    layout = RunLayout(params.name, "pixel")
    told = read_json(layout.pretrained)["mixture"]
    assert told["column"] == "source"
    assert {n: part["samples"] for n, part in told["components"].items()} == taken
    lines = [json.loads(line) for line in layout.metrics.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [step // 3 for step in range(24)]

    uninterrupted = outcome(layout)
    layout.folder.rename("uninterrupted")
    steps = interrupt_step(monkeypatch, 13)
    with pytest.raises(KeyboardInterrupt):
        pretrain_stage.run(params, "pixel")
    pretrain_stage.run(params, "pixel")
    assert outcome(layout) == uninterrupted
    assert next(steps) == 1 + 13 + 14  # it went on after step 10


def test_begins_anew_where_the_mixture_is_another(
    params: Params, compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a training that goes on with other weights, or where a clip is of another component;
    and one that another label repeats."""
    pretrain_stage.run(params, "pixel")
    assert repetition.of_run(params, "pixel", []).note == "trained before: nothing is repeated"
    assert repetition.of_run(params, "pixel", ["shard"]).note.startswith("repeats at most")
    label(params, few, other="y")
    capsys.readouterr()
    pretrain_stage.run(params, "pixel")
    assert "nothing is left to train" in capsys.readouterr().err
    for overrides, source, said in (
        ((), lambda n: few(n + 1), "starting anew: data.components was"),
        ((WEIGHTS.replace("3", "2"),), few, "trainer.mixture.weights.few was 3.0, is 2.0"),
        (("trainer.mixture=null",), few, "trainer.mixture"),
    ):
        other = compose(*SETTINGS, *overrides)
        label(other, source)
        capsys.readouterr()
        pretrain_stage.run(other, "pixel")
        assert said in capsys.readouterr().err


def test_without_a_mixture_nothing_is_new(compose: Compose) -> None:
    """Catches a setting that is not made use of and begins every training anew."""
    params = compose()
    settings = Identity.of(params, "pixel").settings
    assert "mixture" not in settings["trainer"]
    assert settings["data"].keys() == {"clip", "pictures"}
    assert "mixture" not in params.runs["pixel"].model_dump()["trainer"]


def test_weights_are_checked_before_the_training(params: Params, compose: Compose) -> None:
    """Catches a run that trains on what it has while a component is missing."""
    other = compose("trainer.mixture={column: source, weights: {few: 1, many: 1}}")
    with pytest.raises(UserError, match="without a weight: 7") as caught:
        pretrain_stage.run(other, "pixel")
    assert caught.value.place == "runs.pixel.trainer.mixture.weights"
