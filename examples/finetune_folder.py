"""Fine-tune a trained encoder on a folder of labelled videos, one sub-folder per class.

    python -m examples.finetune_folder results/demo/runs/sigma_mlp/model.safetensors my_videos

`my_videos/CLASS/VIDEO` or `my_videos/{train,test}/CLASS/VIDEO`; without a folder `test`, a part of
the videos is held out. They go through the stages of an experiment: what cannot be used is named,
with its reason. The output folder gets

    model.safetensors   the classifier; `pipeline.weights.hub.load` opens it
    predictions.csv     each test clip: its class, the predicted one, that one's probability
    data/, downloads/   what the stages made; a second call goes on from there

Settings are those of `evaluation.finetune` (docs/configuration.md); `--recipe k400` or `ssv2` takes
the published ones, for large encoders on a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file

from pipeline.configuration import composition
from pipeline.configuration.known_weights import ENCODER_FORMAT
from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Clip, Data, Finetune, Model, Params
from pipeline.data.decode import decode_stage
from pipeline.data.fetch import download_stage
from pipeline.data.manifest import manifest_stage
from pipeline.data.manifest.annotations import DATA_SETS
from pipeline.data.shards import index_stage, shard_stage
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.evaluation import finetune, views
from pipeline.evaluation.clips import VideoClips
from pipeline.evaluation.finetune import TrainingSet
from pipeline.evaluation.finetune_loss import Targets
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.runtime.checkpoints import Resumption
from pipeline.runtime.files import atomic_path
from pipeline.runtime.spreadsheets import cell
from pipeline.weights import hub
from pipeline.weights.classifier import Classifier

RECIPES = ("demo_finetuned", "k400", "ssv2")  # of the group `evaluation`


@dataclass(frozen=True)
class Problem:
    """Clips to learn from and to score, and the classes of the former, sorted."""

    train: Sequence[ClipEntry]
    test: Sequence[ClipEntry]
    classes: list[str]

    def targets(self, entries: Sequence[ClipEntry]) -> NDArray[np.int64]:
        """Return the number of each clip's class; -1 where `train` does not have it."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers.get(entry.labels["label"], -1) for entry in entries])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the whole example; return the exit status."""
    options = parse(arguments)
    try:
        accuracy = run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"wrote {options.output / 'model.safetensors'}; top-1 on test clips: {accuracy:.1%}")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("weights", type=Path, help="a run's model.safetensors")
    parser.add_argument("videos", type=Path, help="a folder with a sub-folder per class")
    parser.add_argument("-o", "--output", type=Path, default=Path("finetuned"))
    parser.add_argument("--recipe", choices=RECIPES, default=RECIPES[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--base-lr", type=float, help="per 256 clips of a batch")
    parser.add_argument("--frozen", action="store_true", help="train the new head alone")
    parser.add_argument("--held-out", type=float, default=0.25, help="share, without a folder test")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> float:
    """Make the data set, fine-tune, score, write; return the share of test clips that are right."""
    weights = options.weights.resolve()
    saved = hub.read_saved(weights)
    trained, clip, fps = saved.run, saved.clip, saved.seen.fps
    options.output.mkdir(parents=True, exist_ok=True)
    write_list(options.videos.resolve(), options.output / "videos.csv", options.held_out)
    params = composed(options, weights)
    settings = settings_of(options, params)
    with contextlib.chdir(options.output):  # the stages write below the working directory
        problem = problem_of(made(with_clips_of(clip, fps, params)))
        targets = Targets("single", problem.targets(problem.train), len(problem.classes))
        execution = ExecutionOptions(settings.batch_size, threads=options.threads, label="test")
        network = finetune.fit(
            weights,
            TrainingSet(problem.train, clip, targets),
            settings,
            Resumption(Path("checkpoints"), label="fine-tune"),
            execution,
        )
        test = VideoClips(problem.test, clip, settings.views)
        scores = views.predict(network, "single", test, execution)
        write_predictions(Path("predictions.csv"), problem, scores)
        save(Path("model.safetensors"), network, (trained.model, clip, fps), problem.classes)
        shutil.rmtree("checkpoints")  # they are for an interrupted call to go on from
    return float((scores.argmax(axis=1) == problem.targets(problem.test)).mean())


def write_list(videos: Path, path: Path, held_out: float) -> None:
    """Write the list of clips. What is held out depends on the names of the files alone."""
    found = list(DATA_SETS["folder"].read(videos, 1))
    has_test = any(clip.split == "test" for clip in found)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "path", "label", "split"])
        for clip in found:
            is_out = not has_test and _share(clip.name) < held_out
            row = [clip.id, videos / clip.name, clip.label, "test" if is_out else clip.split]
            writer.writerow(row)


def _share(name: str) -> float:
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32


def composed(options: argparse.Namespace, weights: Path) -> Params:
    """Return the settings of an experiment on this folder."""
    overrides = ["experiment=encoder", "data=folder", "data.name=finetuned", "data.chunks=1"]
    overrides += [f"runs.encoder.weights={weights}", "data.manifest=videos.csv"]
    overrides += [f"evaluation={options.recipe}"]
    return composition.validate(yaml.safe_load(composition.compose(overrides)), place="compose")


def settings_of(options: argparse.Namespace, params: Params) -> Finetune:
    """Return the recipe with what the command line says otherwise, checked once more."""
    recipe = params.evaluation.finetune
    if recipe is None:
        raise UserError(f"evaluation={options.recipe} does not fine-tune")
    values = recipe.model_dump() | {
        "epochs": options.epochs,
        "warmup_epochs": min(recipe.warmup_epochs, options.epochs),
        "batch_size": options.batch_size,
        "accumulation": 1,
        "frozen": options.frozen,
    }
    if options.base_lr is not None:
        values["base_lr"] = options.base_lr
    return Finetune.model_validate(values)


def with_clips_of(clip: Clip, fps: float | None, params: Params) -> Params:
    """Keep a seventh more pixels than the encoder sees, so that crops have room, at its rate.

    That is the rate of the videos that it was trained on; where they had several, each its own.
    """
    short_side = 2 * round(clip.size * 8 / 7 / 2)
    decode = params.data.decode.model_copy(update={"short_side": short_side, "fps": fps})
    data: Data = params.data.model_copy(update={"decode": decode, "pretrain_splits": ("train",)})
    return params.model_copy(update={"data": data})


def made(params: Params) -> DatasetIndex:
    """Run the stages up to the index; each goes on from what is there."""
    manifest_stage.run(params)
    for stage in (download_stage, decode_stage, shard_stage):
        stage.run(params, 0)
    index_stage.run(params)
    return DatasetIndex.load(DataLayout(params.data.name).shards)


def problem_of(index: DatasetIndex) -> Problem:
    """Split the clips; refuse what cannot be learned or scored."""
    train, test = index.clips(["train", "val"]), index.clips(["test"])
    classes = sorted({entry.labels["label"] for entry in train})
    if len(classes) < 2 or not test:
        raise UserError(
            f"{len(train)} clips of {len(classes)} classes to learn from, {len(test)} to score",
            place=str(DataLayout("finetuned").lost),
            remedy="at least two classes and one test clip are needed; give another --held-out",
        )
    return Problem(train, test, classes)


def write_predictions(path: Path, problem: Problem, scores: NDArray[np.float32]) -> None:
    """Write a row per test clip; `scores` (n, C) are logarithms of probabilities."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "true", "predicted", "probability"])
        for entry, row in zip(problem.test, scores, strict=True):
            best = int(row.argmax())
            chosen = problem.classes[best]
            texts = (entry.id, entry.labels["label"], chosen, f"{np.exp(row[best]):.4f}")
            writer.writerow([cell(text) for text in texts])


def save(
    path: Path, network: Classifier, seen: tuple[Model, Clip, float | None], classes: list[str]
) -> None:
    """Write the classifier as `hub.load` reads it, what it saw and the names of its classes."""
    model, clip, fps = seen
    config: dict[str, Any] = {
        "format": ENCODER_FORMAT,
        "kind": "a classifier of examples/finetune_folder.py",
        "model": model.model_dump(mode="json"),
        "clip": clip.model_dump(mode="json"),
        "seen": hub.seen(fps).model_dump(mode="json"),
        "labels": classes,
    }
    tensors = {
        name: part.detach().cpu().contiguous() for name, part in network.state_dict().items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"config": json.dumps(config, sort_keys=True)})


if __name__ == "__main__":
    sys.exit(main())
