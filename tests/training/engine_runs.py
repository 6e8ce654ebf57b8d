"""One process of a few: goes through a list of runs and trials, for tests/training/test_engines.py.

    torchrun --nproc-per-node 2 engine_runs.py FOLDER

In FOLDER, a project's folder, `runs.json` lists the runs: the name of each, whose settings are in
NAME.yaml, and what to resume (a run whose checkpoint after `step` steps is taken, or null). All are
run in these same processes, as the stage does it. `RANK.json` then says which clips each of them
gave to this process, and what else was found.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipeline.configuration import composition
from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Params
from pipeline.data.load.failed_clips import FailedClip, FailedClips
from pipeline.data.load.loader import Batch, PretrainingClips, pretraining_batches
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.runtime import precision, processes
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.runtime.devices import choose_device
from pipeline.runtime.interruption import StopRequest
from pipeline.runtime.optimisers import StepValues
from pipeline.runtime.ranks import Ranks, process_group
from pipeline.training import engines, loop, pretrain_stage

RUN = "sigma_mlp"
STEP = 5  # whose checkpoint is resumed
Trial = dict[str, Any]


def named(name: str) -> Params:
    """The settings of a run; its results are apart from those of the others."""
    return composition.load(f"{name}.yaml").model_copy(update={"name": name})


def train(name: str, resumed: str | None, ranks: Ranks) -> list[list[str]]:
    """Run one from its start, or from a checkpoint of another; return each step's clips here."""
    if ranks.is_first and resumed is not None:
        theirs, ours = (RunLayout(run, RUN) for run in (resumed, name))
        ours.checkpoints.mkdir(parents=True)
        for file in theirs.checkpoints.glob(f"step-{STEP:08d}.pt*"):
            shutil.copy(file, ours.checkpoints)
        lines = theirs.metrics.read_text().splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line)["step"] <= STEP]
        ours.metrics.write_text("".join(kept))
    ranks.on_rank_zero(lambda: None)
    original, clips = loop.synchronised_batches, []

    def noted(*arguments: Any) -> Iterator[tuple[Batch, int]]:
        for batch, count in original(*arguments):
            clips.append(batch.ids)
            yield batch, count

    loop.synchronised_batches = noted
    try:
        pretrain_stage._pretrain(named(name), RUN, name, ranks, choose_device())
    finally:
        loop.synchronised_batches = original
    return clips


def clips_of(batch: Batch, numbers: slice) -> Batch:
    """Some clips of a batch, as if the others had failed."""
    return replace(
        batch, videos=batch.videos[numbers], masks=batch.masks[numbers], ids=batch.ids[numbers]
    )


def step_without_some(name: str, there: list[slice], ranks: Ranks) -> Trial:
    """One step on the clips of the first batch that are `there` in each process."""
    params = named(name)
    run = params.runs[RUN]
    entries = DatasetIndex.load(DataLayout(params.data.name).shards).clips(["train"])
    whole = next(
        pretraining_batches(
            PretrainingClips(
                entries,
                params.data.clip,
                run.objective.mask,
                run.model.tube,
                seed=0,
                batch_size=run.trainer.batch_size,
            ),
            range(1),
        )
    )
    device = choose_device()
    engine = engines.build(
        loop.initial_model(run, params.data.clip).to(device).train(),
        run.trainer,
        ranks,
        precision.choose("fp32", device),
    )
    mine = clips_of(whole, there[ranks.rank])
    ((batch, clips),) = loop.synchronised_batches(iter([mine]), ranks, FailedClips(len(entries), 1))
    result = loop.train_step(engine, batch, clips, run, StepValues(1e-3), StopRequest())
    weights = engine.full_weights(averaged=False)
    length = (
        None if weights is None else sum(float(w.double().square().sum()) for w in weights.values())
    )
    return {"clips": clips, "loss": result.loss, "norm": result.grad_norm, "length": length}


def not_a_number(name: str, ranks: Ranks) -> str:
    """What each process raises where the pixels of rank 1 alone are no numbers."""
    original = loop.normalise
    if ranks.rank == 1:
        loop.normalise = lambda videos: original(videos) * float("nan")
    params = named(name)
    try:
        pretrain_stage._pretrain(params, RUN, name, ranks, choose_device())
    except UserError as error:
        return str(error)
    finally:
        loop.normalise = original
    return ""


def unreadable(ranks: Ranks) -> str:
    """What each process raises where the loader of rank 1 alone finds its clips damaged."""

    def batches() -> Any:
        if ranks.rank == 1:
            raise UserError("clips cannot be read")
        yield Batch(0, 0, torch.zeros(1), torch.zeros(1), ["a"])

    try:
        next(loop.synchronised_batches(batches(), ranks, FailedClips(100, 1)))
    except UserError as error:
        return str(error)
    return ""


def too_many_lost(ranks: Ranks) -> list[str]:
    """What each process says where both lose a clip, which together is one too many."""
    clips = torch.zeros(1)
    failed = (FailedClip(f"lost by {ranks.rank}", "damaged"),)
    batch = Batch(0, 0, clips, clips, ["a"], failed=failed)
    known = FailedClips(100, 0.02)
    ((_, count),) = loop.synchronised_batches(iter([batch]), ranks, known)
    try:
        next(loop.synchronised_batches(iter([batch]), ranks, FailedClips(100, 0.01)))
    except UserError as error:
        return [str(count), *sorted(known.reasons), str(error)]
    return []


def full_disk(ranks: Ranks) -> str:
    """What each process raises where rank 0 cannot write."""

    def save() -> None:
        Checkpoints(Path("/proc/none"), {}, 1, "pretrain").save(1, {})

    try:
        ranks.on_rank_zero(save)
    except UserError as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    os.chdir(folder)
    torch.set_num_threads(1)
    found: Trial = {}
    process = processes.process_info(os.environ)
    with process_group(process, choose_device(), timeout_s=60) as ranks:
        for name, resumed in json.loads(Path("runs.json").read_text()):
            found[f"clips of {name}"] = train(name, resumed, ranks)
        uneven = [slice(0, 8), slice(8, 13)]
        for name in ("ddp", "many_parts"):
            found[f"uneven {name}"] = step_without_some(name, uneven, ranks)
        found["nan"] = not_a_number("nan", ranks)
        found["unreadable"] = unreadable(ranks)
        found["too many lost"] = too_many_lost(ranks)
        found["full disk"] = full_disk(ranks)
        found["reports"] = ranks.claims_error_report()
    Path(f"{process.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
