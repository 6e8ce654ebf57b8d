"""Stage `pretrain`: train one run's model; weights first, their manifest last."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

from pipeline.clips.order import steps_of
from pipeline.configuration import stages
from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Data, Params, Run
from pipeline.errors import UserError
from pipeline.files import sha256_file, write_json
from pipeline.models import hub
from pipeline.provenance import provenance
from pipeline.shards.index import DatasetIndex
from pipeline.training.checkpoints import Checkpoints, fingerprint
from pipeline.training.interruption import GO_ON_LATER, GoOnLater
from pipeline.training.logs import MetricsLog, SpeedLog
from pipeline.training.loop import train
from pipeline.training.state import TrainingState

# What may change between a run and its resumption: nothing that decides what is learned. (Other
# `threads` add up in another order: the result is as good, but no longer equal bit for bit.)
LOADING, WRITING = {"threads", "workers", "cache_mib"}, {"log_every", "checkpoint_every"}
FREE = {"name", "keep_checkpoints"} | LOADING | WRITING


def run(params: Params, run: str) -> None:
    """Pretrain `params.runs[run]`; with no epochs, write the model as it was initialised.

    Goes on from the newest checkpoint of the same settings, data and code. After SIGTERM or SIGUSR1
    it saves and exits with status 75.
    """
    chosen, data = params.runs[run], params.data
    source, layout = DataLayout(data.name), RunLayout(params.name, run)
    label = f"pretrain {run}"
    layout.pretrained.unlink(missing_ok=True)  # it would vouch for weights about to change

    index = DatasetIndex.load(source.shards)
    entries = index.clips(data.pretrain_splits)
    if not entries:
        raise UserError(
            f"no clip to pretrain on: the data set has {index.splits or 'no clips'}",
            place=f"data.pretrain_splits, {source.index}",
            remedy="name a split that has clips, or see why they were lost in the index",
        )
    settings = resumable_settings(chosen, data, index)
    steps = steps_of(chosen.trainer.epochs, n=len(entries), batch_size=chosen.trainer.batch_size)
    made_with = provenance()
    try:
        state = train(
            chosen,
            data.clip,
            entries,
            Checkpoints(layout.checkpoints, settings, chosen.trainer.keep_checkpoints, label),
            MetricsLog(layout.metrics, every=chosen.trainer.log_every, steps=steps),
            SpeedLog(layout.speed),
            dict(made_with),
        )
    except GoOnLater as stop:
        print(f"[{label}] {stop}; run the same command again and it goes on", file=sys.stderr)
        raise SystemExit(GO_ON_LATER) from None
    hub.save(layout.weights, state.model.eval(), chosen, data.clip)
    inputs = {
        "fingerprint": fingerprint(settings),
        "index_sha256": sha256_file(source.index),
        "clips": len(entries),
        "clip": data.clip.model_dump(mode="json"),
        "provenance": made_with,
    }
    write_json(layout.pretrained, _manifest(params, run, layout, state) | inputs)
    loss = state.log.last.get("loss")
    ended = f"{state.done:,} steps, loss {loss:.3f}" if loss is not None else "untrained"
    print(f"[{label}] {ended}; wrote {layout.weights}", file=sys.stderr, flush=True)


def resumable_settings(run: Run, data: Data, index: DatasetIndex) -> dict[str, Any]:
    """Return all that decides what a run learns: a checkpoint is resumed under equal ones only.

    The code counts, too: what was made by other code is no result of this one. The data are the
    hashes of the shards that are trained on, so a change to other splits, or to the reasons for
    which clips were lost, invalidates nothing.
    """
    shards = sorted(s.sha256 for s in index.shards if s.split in data.pretrain_splits)
    sections = {name: getattr(run, name).model_dump(mode="json") for name in Run.model_fields}
    return {
        **{name: {k: v for k, v in s.items() if k not in FREE} for name, s in sections.items()},
        "code": stages.code_sha256("pretrain"),
        "data": {
            "clip": data.clip.model_dump(mode="json"),
            "shards": hashlib.sha256("\n".join(shards).encode()).hexdigest(),
        },
    }


def _manifest(params: Params, run: str, layout: RunLayout, state: TrainingState) -> dict[str, Any]:
    """What came out, and how long it took; steps that a crash lost are not in `seconds`."""
    chosen = params.runs[run]
    seconds = sum(session["seconds"] for session in state.sessions)
    trained = [p for p in state.model.parameters() if p.requires_grad]
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
        "encoder_parameters": sum(p.numel() for p in state.model.encoder.parameters()),
        "teacher_sha256": state.teacher_sha256,  # of the frozen network's weights; null: has none
        "model_sha256": sha256_file(layout.weights),
        "metrics_sha256": sha256_file(layout.metrics),
        "sessions": state.sessions,
    }
