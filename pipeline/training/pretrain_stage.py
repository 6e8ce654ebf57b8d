"""Stage `pretrain`: train one run's model; weights first, their manifest last."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from typing import Any

import torch

from pipeline.clips.order import steps_of
from pipeline.configuration import stages
from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Data, Params, Run
from pipeline.errors import UserError
from pipeline.files import sha256_file, write_json
from pipeline.models import encoders, hub
from pipeline.models.sigma import SigmaModel
from pipeline.provenance import provenance
from pipeline.shards.index import DatasetIndex
from pipeline.training import launch
from pipeline.training.checkpoints import Checkpoints, fingerprint
from pipeline.training.devices import choose_device
from pipeline.training.failures import explained
from pipeline.training.interruption import GoOnLater, leave
from pipeline.training.logs import MetricsLog, SpeedLog
from pipeline.training.loop import train
from pipeline.training.ranks import LINGER, Ranks, joined
from pipeline.training.state import TrainingState
from pipeline.training.tracking import Tracked

# What may change between a run and its resumption: nothing that decides what is learned. (Other
# `threads` add up in another order: the result is as good, but no longer equal bit for bit.)
LOADING = {"threads", "workers", "cache_mib", "decoder", "max_failed_share"}
SPREADING = {"engine", "zero_stage", "nodes", "devices", "timeout_s", "accumulation", "compile"}
WRITING = {"log_every", "checkpoint_every", "keep_checkpoints", "keep_every", "tracking", "profile"}
FREE = {"name"} | LOADING | SPREADING | WRITING


def run(params: Params, run: str) -> None:
    """Pretrain `params.runs[run]`; with no epochs, write the model as it was initialised.

    Goes on from the newest checkpoint of the same settings, data and code. After SIGTERM or SIGUSR1
    it saves and exits with status 75. Where several processes are configured and this is the only
    one, it starts them, and exits with their status.
    """
    trainer, label = params.runs[run].trainer, f"pretrain {run}"
    place = launch.find_place(os.environ)
    if launch.starts_others(place, trainer):
        status = launch.start(trainer, launch.this_command())
        if status:
            raise SystemExit(status)
        return
    device = choose_device(place.local_rank, place.local_world)
    with joined(launch.reachable(place), device, timeout_s=trainer.timeout_s) as ranks:
        launch.check(place, trainer)
        try:
            _pretrain(params, run, label, ranks, device)
        except GoOnLater as stop:
            if not ranks.is_first:
                time.sleep(LINGER)  # until rank 0 has said so
            leave(stop, label, is_first=ranks.is_first)


def _pretrain(params: Params, run: str, label: str, ranks: Ranks, device: torch.device) -> None:
    chosen, data = params.runs[run], params.data
    source, layout = DataLayout(data.name), RunLayout(params.name, run)
    index = DatasetIndex.load(source.shards)
    entries = index.clips(data.pretrain_splits)
    if not entries:
        raise UserError(
            f"no clip to pretrain on: the data set has {index.splits or 'no clips'}",
            place=f"data.pretrain_splits, {source.index}",
            remedy="name a split that has clips, or see why they were lost in the index",
        )
    trainer, settings = chosen.trainer, resumable_settings(chosen, data, index)
    steps = steps_of(trainer.epochs, n=len(entries), batch_size=trainer.batch_size)
    made_with, configuration = provenance(), chosen.model_dump(mode="json")
    kept = (trainer.keep_checkpoints, label, trainer.keep_every)
    checkpoints = Checkpoints(layout.checkpoints, settings, *kept)
    with explained(checkpoints, ranks):
        if ranks.is_first:
            layout.pretrained.unlink(missing_ok=True)  # it would vouch for weights about to change
        state = train(
            chosen,
            data.clip,
            entries,
            checkpoints,
            MetricsLog(layout.metrics, every=trainer.log_every, steps=steps),
            SpeedLog(layout.speed),
            dict(made_with),
            Tracked(params.name, run, layout.folder, fingerprint(settings), configuration),
            ranks,
            device,
        )
        model = state.trained_model(chosen, data.clip)  # all processes give their parts
        if not ranks.is_first:
            return
        origin = encoders.fill(model.encoder, chosen, data.clip) if chosen.weights else None
        hub.save(layout.weights, model, chosen, data.clip)
        layout.checkpoints.mkdir(exist_ok=True)  # DVC expects it, also where nothing was trained
        inputs = {
            "fingerprint": fingerprint(settings),
            "index_sha256": sha256_file(source.index),
            "clips": len(entries),
            "clip": data.clip.model_dump(mode="json"),
            "provenance": made_with,
            "weights": origin.record() if origin else None,
        }
        manifest = _manifest(params, run, layout, state, model)
        write_json(layout.pretrained, manifest | inputs)
    loss = state.log.last.get("loss")
    ended = f"{state.done:,} steps, loss {loss:.3f}" if loss is not None else "untrained"
    if origin is not None:
        ended = f"encoder of {origin.kind}, {origin.path}"
    print(f"[{label}] {ended}; wrote {layout.weights}", file=sys.stderr, flush=True)


def resumable_settings(run: Run, data: Data, index: DatasetIndex) -> dict[str, Any]:
    """Return all that decides what a run learns: a checkpoint is resumed under equal ones only.

    The code counts, too: what was made by other code is no result of this one. The data are the
    hashes of the shards that are trained on, so a change to other splits, or to the reasons for
    which clips were lost, invalidates nothing.
    """
    shards = sorted(s.sha256 for s in index.shards if s.split in data.pretrain_splits)
    every = run.model_dump(mode="json")
    sections = {name: part for name, part in every.items() if isinstance(part, dict)}
    return {
        **{name: {k: v for k, v in s.items() if k not in FREE} for name, s in sections.items()},
        "code": stages.code_sha256("pretrain"),
        "data": {
            "clip": data.clip.model_dump(mode="json"),
            "shards": hashlib.sha256("\n".join(shards).encode()).hexdigest(),
        },
    }


def _manifest(
    params: Params, run: str, layout: RunLayout, state: TrainingState, model: SigmaModel
) -> dict[str, Any]:
    """What came out, and how long it took; steps that a crash lost are not in `seconds`."""
    chosen = params.runs[run]
    seconds = sum(session["seconds"] for session in state.sessions)
    trained = [p for p in model.parameters() if p.requires_grad]
    return {
        "experiment": params.name,
        "run": run,
        "configuration": chosen.model_dump(mode="json"),
        "epochs": chosen.trainer.epochs,
        "steps": state.done,
        "final_loss": state.log.last.get("loss"),  # null where there was no step
        "seconds": round(seconds, 3),
        "clips_per_s": round(state.done * chosen.trainer.batch_size / seconds, 2)
        if seconds
        else None,
        "parameters": sum(p.numel() for p in trained),
        "encoder_parameters": sum(p.numel() for p in model.encoder.parameters()),
        "averaged": chosen.trainer.ema is not None,  # whether these are the averaged weights
        "teacher_sha256": state.teacher_sha256,  # of the frozen network's weights; null: has none
        "model_sha256": sha256_file(layout.weights),
        "metrics_sha256": sha256_file(layout.metrics),
        "failed_clips": state.failed_clips,  # left out of training, and why; nothing replaced them
        "sessions": state.sessions,
    }
