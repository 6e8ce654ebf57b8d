"""Online evaluation: its numbers, its clips, and that training does not notice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Params
from pipeline.data.load import clip_reader, crops
from pipeline.data.records import ChunkManifest
from pipeline.data.shards import index_stage, shard_stage
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.method.pixels import normalise
from pipeline.method.pooling import Pooled
from pipeline.runtime.files import read_json
from pipeline.training import pretrain_stage
from pipeline.training.identity import Identity
from pipeline.training.online_evaluation import (
    TEMPERATURE,
    K,
    OnlineEvaluation,
    effective_rank,
    knn_top1,
)
from pipeline.training.probe_clips import CLIPS_PER_CLASS, ProbeClips, choose

Compose = Callable[..., Params]
PROBED = ("trainer.probe_every=2", "trainer.probe_clips=12", "trainer.log_every=3")
SCORES = ("rankme", "knn_half")


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rankme_counts_directions_of_equal_weight(rank: int) -> None:
    """Catches squared singular values, a logarithm to another base, and a centred matrix."""
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))
    features = np.repeat(basis[:rank], 24 // rank, axis=0) * 3.0
    assert effective_rank(features) == pytest.approx(rank, rel=1e-4)


def test_rankme_weighs_directions_by_their_singular_values() -> None:
    """Catches a rank that only counts (oracle: the entropy by hand)."""
    shares = np.array([3, 1]) / 4
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert effective_rank(np.diag([3.0, 1.0])) == pytest.approx(expected, rel=1e-4)
    assert effective_rank(np.ones((20, 5))) == pytest.approx(1, rel=1e-4)


def test_neighbours_vote_as_in_evaluation() -> None:
    """Catches another vote than the probe's, and clips without a label that answer or are asked."""
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(40, 6)), rng.normal(size=(60, 6))
    truth, others = rng.choice(list("abc"), 40), rng.choice(list("abc"), 60)
    oracle = KNeighborsClassifier(
        K, metric="cosine", weights=lambda distances: np.exp(-distances / TEMPERATURE)
    )
    expected = oracle.fit(gallery, others).score(queries, truth)
    assert knn_top1(queries, truth, gallery, others) == pytest.approx(expected)

    nameless = np.array([""] * 3)
    more = [np.concatenate([part, queries[:3]]) for part in (queries, gallery)]
    names = [np.concatenate([part, nameless]) for part in (truth, others)]
    assert knn_top1(more[0], names[0], more[1], names[1]) == pytest.approx(expected)
    assert knn_top1(queries[:3], nameless, gallery, others) is None


def test_without_a_gallery_no_clip_is_its_own_neighbour() -> None:
    """Catches a clip that answers for itself, also where an equal clip stands before it."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 6))
    rows[7] = rows[3]
    truth = rng.choice(list("abc"), 30)
    right = []
    for place in range(30):
        rest = np.arange(30) != place
        right.append(knn_top1(rows[[place]], truth[[place]], rows[rest], truth[rest]))
    assert knn_top1(rows, truth, None, None) == pytest.approx(np.mean(cast("list[float]", right)))
    assert knn_top1(rows[:1], truth[:1], None, None) is None


@dataclass
class Index:
    """Clips by split, as a `DatasetIndex` gives them."""

    by_split: dict[str, list[ClipEntry]]

    @property
    def splits(self) -> dict[str, int]:
        return {split: len(clips) for split, clips in self.by_split.items()}

    def clips(self, splits: Sequence[str]) -> list[ClipEntry]:
        return [clip for split in splits for clip in self.by_split[split]]


def index_of(classes: int = 4, **clips: int) -> DatasetIndex:
    by_split = {
        split: [
            ClipEntry(
                id=f"{split}-{number:04d}",
                shard=Path("none"),
                offset=0,
                size=0,
                frames=1,
                fps=1,
                width=1,
                height=1,
                split=split,
                labels={"kind": f"k{number % classes}", "name": f"n{number}", "odd": ""},
            )
            for number in range(count)
        ]
        for split, count in clips.items()
    }
    return cast("DatasetIndex", Index(by_split))


def kinds(clips: Sequence[ClipEntry]) -> list[str]:
    return sorted(clip.labels["kind"] for clip in clips)


def test_val_is_asked_train_answers_and_test_is_left_alone() -> None:
    """Catches clips of test, a name that is taken for a class, and classes of unequal size."""
    chosen = choose(index_of(train=90, val=40, test=50), None, 16)
    assert chosen is not None
    assert (chosen.split, chosen.labels) == ("val", ("kind",))
    assert {clip.split for clip in chosen.queries} == {"val"}
    assert {clip.split for clip in chosen.gallery} == {"train"}
    assert len(set(kinds(chosen.queries))) == 16 // CLIPS_PER_CLASS
    assert kinds(chosen.queries) == kinds(chosen.gallery)
    alone = choose(index_of(train=90, test=50), ["kind"], 64)
    assert alone is not None
    assert (alone.split, len(alone.queries), len(alone.gallery)) == ("train", 64, 0)
    assert kinds(alone.queries) == sorted(f"k{number % 4}" for number in range(64))
    assert choose(index_of(test=50), None, 16) is None


def test_a_column_whose_classes_are_apart_is_no_label() -> None:
    """Catches recordings, which splits keep apart, as classes: no clip of either would be left."""
    index = index_of(train=90, val=40)
    for split, clips in cast("Any", index).by_split.items():
        for number, clip in enumerate(clips):
            clip.labels["a"] = f"{split}-{number % 3}"
    chosen = choose(index, None, 16)
    assert chosen is not None
    assert chosen.labels == ("kind",)
    assert len(kinds(chosen.queries)) == len(kinds(chosen.gallery)) == 16
    with pytest.raises(UserError, match="no two classes of 'a' have clips in both"):
        choose(index, ["a"], 16)


def test_the_clips_are_the_same_in_any_order() -> None:
    """Catches clips that follow from their places rather than their ids."""
    index = index_of(train=90, val=40)
    before = choose(index, [], 16)
    for clips in cast("Any", index).by_split.values():
        clips.reverse()
    after = choose(index, [], 16)
    assert before is not None
    assert after is not None
    assert before.labels == ()
    assert {clip.id for clip in before.queries} == {clip.id for clip in after.queries}
    assert [clip.id for clip in before.queries] != [f"val-{n:04d}" for n in range(16)]


def test_a_label_that_no_clip_has_is_named() -> None:
    """Catches a misspelt column that is passed over."""
    with pytest.raises(UserError, match="no clip has a label 'kid': the columns are kind, name"):
        choose(index_of(train=9), ["kid"], 8)


def labelled(params: Params) -> None:
    """Give the clips a label of two classes, and pack and list them again."""
    layout = DataLayout(params.data.name)
    manifest = ChunkManifest.read(layout.decoded(0))
    for number, clip in enumerate(manifest.clips):
        clip.labels = {"half": f"h{number % 2}"}
    manifest.write(layout.decoded(0))
    shard_stage.run(params, 0)
    index_stage.run(params)


def log(layout: RunLayout) -> list[dict[str, Any]]:
    return [json.loads(line) for line in layout.metrics.read_text().splitlines()]


def trained(params: Params, run: str = "sigma_mlp") -> RunLayout:
    layout = RunLayout(params.name, run)
    pretrain_stage.run(params, run)
    other = RunLayout(params.name, f"{run}-{params.runs[run].trainer.probe_every}")
    layout.folder.rename(other.folder)
    return other


@pytest.mark.parametrize("more", [(), ("trainer.ema=0.9", "trainer.accumulation=2")])
def test_training_does_not_notice(compose: Compose, more: tuple[str, ...]) -> None:
    """Catches a probe that draws from training's generators, leaves the model in evaluation mode,
    or changes its weights: weights and losses are equal bit for bit."""
    more = (*more, "++model.drop_path=0.2", "trainer.epochs=4")
    labelled(compose())
    off = trained(compose(*more, "trainer.log_every=1"))
    on = trained(compose(*more, *PROBED, "trainer.log_every=1"))
    weights, others = load_file(on.weights), load_file(off.weights)
    assert all(torch.equal(weights[name], others[name]) for name in others)
    began, *lines = log(on)
    assert began == {"step": 0, "epoch": 0, "loss": None, **{key: began[key] for key in SCORES}}
    assert [{k: v for k, v in line.items() if k not in SCORES} for line in lines] == log(off)
    assert [line["step"] for line in lines if "rankme" in line] == [2, 4, 6]
    assert all(1 <= line["rankme"] <= 12 for line in lines if "rankme" in line)
    assert len({line.get("rankme") for line in lines}) == 4  # it moves


def test_what_is_probed_is_what_would_be_written(compose: Compose) -> None:
    """Catches scores of other weights, clips or views than those of the model that is kept."""
    labelled(compose())
    params = compose(*PROBED, "trainer.ema=0.9")
    layout = trained(params)
    manifest = read_json(layout.pretrained)
    assert manifest["online_evaluation"] == {
        "split": "train",
        "clips": 12,
        "train_clips": 11,
        "labels": {"half": {"classes": 2, "majority": 0.5}},
    }
    assert manifest["sessions"][0]["probe_seconds"] > 0
    index = DatasetIndex.load(DataLayout(params.data.name).shards)
    run = params.runs["sigma_mlp"]
    clips = choose(index, None, 12)
    assert clips is not None
    online = OnlineEvaluation(run, params.data.clip, clips)
    weights = load_file(layout.weights)
    engine = cast("Any", _Engine(weights))
    last = log(layout)[-1]
    assert online.scores(engine) == {key: last[key] for key in SCORES}


@pytest.mark.parametrize("kind", ["dense", "per_segment"])
def test_clips_are_seen_as_in_training(
    compose: Compose, kind: Literal["dense", "per_segment"]
) -> None:
    """Catches half a second of each video where training sees frames of all of it."""
    params = compose(*PROBED, f"data.clip.sampling={kind}", "data.clip.frames=4")
    entries = DatasetIndex.load(DataLayout(params.data.name).shards).clips(["train"])[:3]
    clips = ProbeClips("train", entries, (), ())
    online = OnlineEvaluation(params.runs["sigma_mlp"], params.data.clip, clips)
    chosen = {"dense": [3, 4, 5, 6], "per_segment": [1, 3, 6, 8]}[kind]  # of 10
    for entry, seen in zip(entries, online._queries.pixels, strict=True):
        whole = clip_reader.read(entry, chosen)
        window = crops.along_long_side(entry.height, entry.width, 1)[0]
        assert np.array_equal(seen.numpy(), crops.cut(whole, window, params.data.clip.size))


def test_features_are_pooled_as_evaluation_pools_them(compose: Compose) -> None:
    """Catches a curve of other features than those that are scored in the end."""
    params = compose(*PROBED, "evaluation.drop_tubes=0.7")
    run, index = params.runs["sigma_mlp"], DatasetIndex.load(DataLayout(params.data.name).shards)
    clips = ProbeClips("train", index.clips(["train"])[:5], (), ())
    online = OnlineEvaluation(run, params.data.clip, clips)
    found = online._features(online._queries, cast("Any", _Engine({})))
    with torch.no_grad():
        expected = Pooled(online._encoder, 0.7)(normalise(online._queries.pixels)).double()
        plain = Pooled(online._encoder)(normalise(online._queries.pixels)).double()
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)
    assert not np.allclose(found, plain.numpy(), rtol=1e-2)


class _Engine:
    """As much of an engine as is asked."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        from pipeline.runtime import precision
        from pipeline.runtime.ranks import Ranks

        self.ranks, self.device = Ranks(), torch.device("cpu")
        self.precision = precision.choose("fp32", self.device)
        self.weights = weights

    def full_weights(self, *, averaged: bool) -> dict[str, torch.Tensor]:
        assert averaged
        return self.weights


def test_a_probe_more_or_less_restarts_nothing(
    compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a training that is thrown away for the sake of a curve."""
    identities = [Identity.of(compose(*each), "sigma_mlp").settings for each in ((), PROBED)]
    assert identities[0] == identities[1]
    pretrain_stage.run(compose(), "sigma_mlp")
    before = load_file(RunLayout("tiny", "sigma_mlp").weights)
    capsys.readouterr()
    pretrain_stage.run(compose(*PROBED), "sigma_mlp")
    assert "going on after step 3" in capsys.readouterr().err
    after = load_file(RunLayout("tiny", "sigma_mlp").weights)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_clips_that_cannot_be_read_are_left_out(compose: Compose) -> None:
    """Catches one damaged clip that ends a training for the sake of a curve."""
    params = compose(*PROBED)
    index = DatasetIndex.load(DataLayout(params.data.name).shards)
    clips = choose(index, [], 12)
    assert clips is not None
    shard = clips.queries[0].shard
    content = bytearray(shard.read_bytes())
    begin = clips.queries[0].offset
    content[begin : begin + clips.queries[0].size] = bytes(clips.queries[0].size)
    shard.write_bytes(content)
    online = OnlineEvaluation(params.runs["sigma_mlp"], params.data.clip, clips)
    assert len(online._queries.labels) == len(online._queries.pixels) == 11
