"""Stage `pretrain`: train one run's model; weights first, their manifest last."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Clip, Params, Run, Trainer
from pipeline.data.load.mixture import mixed
from pipeline.data.shards.clip_table import counts
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.index import DatasetIndex, Pictures
from pipeline.errors import UserError
from pipeline.method.sigma import SigmaModel
from pipeline.runtime import accelerators, launch, processes
from pipeline.runtime.checkpoint_sets import FINISHED, fingerprint
from pipeline.runtime.checkpoints import Checkpoints, last_good_in
from pipeline.runtime.claims import POLL_S, STALE_S, Claim
from pipeline.runtime.devices import choose_device, deterministic
from pipeline.runtime.files import remove_leftovers, sha256_file, write_json
from pipeline.runtime.interruption import ResumeLater, exit_or_requeue
from pipeline.runtime.provenance import provenance
from pipeline.runtime.ranks import LINGER, Ranks, process_group
from pipeline.training import clustering, probe_clips
from pipeline.training.context import RunContext
from pipeline.training.earlier_settings import in_todays_terms
from pipeline.training.engines import check_kind
from pipeline.training.explained_errors import explained
from pipeline.training.finished import is_done
from pipeline.training.identity import Identity, pictures_of
from pipeline.training.inheritance import Initial
from pipeline.training.logs import MetricsLog, SpeedLog
from pipeline.training.loop import train
from pipeline.training.online_evaluation import OnlineEvaluation
from pipeline.training.schedules import steps_of
from pipeline.training.state import TrainingState
from pipeline.training.tracking import TrackedRun
from pipeline.weights import encoders, hub


def run(params: Params, run: str) -> None:
    """Pretrain `params.runs[run]`; with no epochs, write the model as it was initialised.

    Goes on from the newest checkpoint of the same settings, pictures and code. After SIGTERM or
    SIGUSR1 it saves and exits with status 75. Where several processes are configured and this is
    the only one, it starts them, and exits with their status. What is done already is not redone.

    Raises:
        UserError: where another process is at work on this run.
    """
    trainer, label = params.runs[run].trainer, f"pretrain {run}"
    process = processes.process_info(os.environ)
    should_spawn = launch.should_spawn(process, trainer)
    with claimed(RunLayout(params.name, run), label, claims=_claims(process, trainer)) as release:
        if process.world == 1 and is_done(params, run, label):
            return
        check_kind(trainer, accelerators.kind())
        if should_spawn:
            status = launch.spawn(trainer, launch.this_command())
            if status:
                raise SystemExit(status)
            return
        device = choose_device(process.local_rank, process.local_world)
        with process_group(
            processes.resolve_master(process),
            device,
            timeout_s=trainer.timeout_s,
            needed=trainer.engine != "single",
        ) as ranks:
            processes.check_world(process, trainer)
            stopped = None
            try:
                with deterministic(trainer.deterministic, "trainer.deterministic"):
                    _pretrain(params, run, label, ranks, device)
            except ResumeLater as stop:
                stopped = stop
                if not ranks.is_first:
                    time.sleep(LINGER)  # until rank 0 has said so
            if stopped is None:
                return
            release()  # Slurm may start the job again while this process waits to be ended
            exit_or_requeue(stopped, label, is_first=ranks.is_first)


def _claims(process: processes.ProcessInfo, trainer: Trainer) -> bool:
    """Whether this process claims the run for all: the one that starts them here, or rank 0.

    What srun starts does not know of a claim of the process that called srun.
    """
    if launch.should_spawn(process, trainer) and trainer.nodes > 1:
        return False
    return process.rank == 0 and process.launcher != processes.OWN_LAUNCHER


def _taken(claim: Claim, layout: RunLayout, label: str) -> bool:
    try:
        return claim.take()
    except OSError as error:
        good = last_good_in(layout.checkpoints)
        raise UserError(
            f"{label}: the run's folder cannot be written: {error.strerror}",
            place=layout.folder.as_posix(),
            remedy="make room or allow writing, then run the same command again and it goes on; "
            + good,
        ) from error


@contextlib.contextmanager
def claimed(layout: RunLayout, label: str, *, claims: bool = True) -> Iterator[Callable[[], None]]:
    """Let nobody else work on this run meanwhile: two would write into one log.

    What is yielded ends the claim before the block does. Without `claims` another process does so.
    """
    if not claims:
        yield lambda: None
        return
    claim = Claim(layout.checkpoints)
    deadline = time.monotonic() + 1.1 * STALE_S  # that of a killed job on another machine
    while not _taken(claim, layout, label):
        if claim.is_of_this_machine() or time.monotonic() > deadline:
            raise UserError(
                f"{label}: another process is at work on this run",
                place=claim.path.as_posix(),
                remedy="wait until it has ended, or stop it, and run again",
            )
        time.sleep(POLL_S)
    try:
        remove_leftovers(layout.weights, layout.pretrained, layout.metrics, layout.speed)
        remove_leftovers(layout.curves, layout.profile)
        yield claim.release
    finally:
        claim.release()


def _pretrain(params: Params, run: str, label: str, ranks: Ranks, device: torch.device) -> None:
    """Train a run, and write its weights and its manifest."""
    chosen, layout = params.runs[run], RunLayout(params.name, run)
    context = _context(params, run, label, ranks, device)
    with explained(context.checkpoints, ranks):
        if ranks.is_first:
            layout.pretrained.unlink(missing_ok=True)  # it would vouch for weights about to change
        state = train(context)
        model = state.trained_model(chosen, params.data.clip)  # all processes give their parts
        if not ranks.is_first:
            return
        fps = common_rate(counts(context.entries, "fps"))
        origin = None
        if chosen.weights:
            origin = encoders.fill(model.encoder, chosen, params.data.clip, fps)
        hub.save(layout.weights, model, chosen, params.data.clip, fps)
        layout.checkpoints.mkdir(exist_ok=True)  # DVC expects it, also where nothing was trained
        manifest = {
            **_results(context, layout, state, model),
            "experiment": params.name,
            "run": run,
            "weights": origin.record() if origin else None,
            "init": context.initial.record(fps) if context.initial else None,
        }
        write_json(layout.checkpoints / FINISHED, manifest)
        write_json(layout.pretrained, manifest)
    loss = state.log.last.get("loss")
    ended = f"{state.done:,} steps, loss {loss:.3f}" if loss is not None else "untrained"
    if origin is not None:
        ended = f"encoder of {origin.kind}, {origin.path}"
    print(f"[{label}] {ended}; wrote {layout.weights}", file=sys.stderr, flush=True)


def _context(
    params: Params, run: str, label: str, ranks: Ranks, device: torch.device
) -> RunContext:
    """Gather what the training needs. Raises UserError where there is no clip to pretrain on."""
    chosen, data = params.runs[run], params.data
    source, layout, trainer = DataLayout(data.name), RunLayout(params.name, run), chosen.trainer
    index = DatasetIndex.load(source.shards)
    entries: Sequence[ClipEntry] = index.clips(data.pretrain_splits)
    if not entries:
        raise UserError(
            f"no clip to pretrain on: the data set has {index.splits or 'no clips'}",
            place=f"data.pretrain_splits, {source.index}",
            remedy="name a split that has clips, or see why they were lost in the index",
        )
    mixture = None
    if trainer.mixture is not None:
        mixture, entries = mixed(entries, trainer.mixture, f"runs.{run}.trainer.mixture")
    pictures = pictures_of(data)
    identity = Identity.of(params, run, pictures, components=mixture.sha256 if mixture else None)
    configuration, made_with = chosen.model_dump(mode="json"), provenance()
    steps, _ = steps_of(trainer, len(entries))
    return RunContext(
        run=chosen,
        clip=data.clip,
        entries=entries,
        epochs=max(trainer.epochs, steps * trainer.batch_size // len(entries)),
        ranks=ranks,
        device=device,
        checkpoints=_checkpoints(layout, trainer, identity, label, pictures),
        log=MetricsLog(
            layout.metrics, every=trainer.log_every, steps=steps, probe_every=trainer.probe_every
        ),
        speed=SpeedLog(layout.speed),
        tracked=TrackedRun(
            params.name, run, layout.folder, fingerprint(identity.settings), configuration
        ),
        provenance=made_with,
        session=dict(made_with),
        initial=Initial.of(params.name, chosen, data.clip),
        online=_online_evaluation(index, chosen, data.clip) if steps else None,
        mixture=mixture,
    )


def _online_evaluation(index: DatasetIndex, run: Run, clip: Clip) -> OnlineEvaluation | None:
    """What scores the run while it trains, where that is asked for and there are clips for it."""
    trainer = run.trainer
    clips = None
    if trainer.probe_every:
        clips = probe_clips.choose(index, trainer.probe_labels, trainer.probe_clips)
    return OnlineEvaluation(run, clip, clips) if clips else None


def checkpoints_of(layout: RunLayout) -> Checkpoints:
    """Return a run's checkpoints and what belongs to them, of whatever settings."""
    return Checkpoints(layout.checkpoints, {}, 1, layout.run, companions=layout.learned)


def _checkpoints(
    layout: RunLayout, trainer: Trainer, identity: Identity, label: str, pictures: Pictures
) -> Checkpoints:
    return replace(
        checkpoints_of(layout),
        settings=identity.settings,
        keep=trainer.keep_checkpoints,
        label=label,
        keep_every=trainer.keep_every,
        code=identity.code,
        on_code_change=trainer.on_code_change,
        translate=lambda info: in_todays_terms(info, pictures),
    )


def common_rate(clips: Mapping[float, int]) -> float | None:
    """Return the frames a second that all clips have; None where they differ by a thousandth.

    `clips` says how many clips have each rate.
    """
    rates = sorted(clips)
    if not rates or rates[-1] > rates[0] * 1.001:
        return None
    up_to = list(itertools.accumulate(clips[rate] for rate in rates))
    return round(rates[bisect.bisect_right(up_to, up_to[-1] // 2)], 6)  # that of the middle clip


def _mixture_record(context: RunContext, samples: int) -> dict[str, Any]:
    return {"mixture": context.mixture.record(samples)} if context.mixture else {}


def _results(
    context: RunContext, layout: RunLayout, state: TrainingState, model: SigmaModel
) -> dict[str, Any]:
    """What came out, of what, and how long it took; `seconds` lack steps that a crash lost."""
    trainer, checkpoints = context.run.trainer, context.checkpoints
    seconds = sum(session["seconds"] for session in state.sessions)
    clips_per_s = round(state.done * trainer.batch_size / seconds, 2) if seconds else None
    trained = [p for p in model.parameters() if p.requires_grad]
    return {
        "configuration": context.run.model_dump(mode="json"),
        "epochs": context.epochs,
        "steps": state.done,
        "final_loss": state.log.last.get("loss"),  # null where there was no step
        "seconds": round(seconds, 3),
        "clips_per_s": clips_per_s,
        "parameters": sum(p.numel() for p in trained),
        "encoder_parameters": sum(p.numel() for p in model.encoder.parameters()),
        "averaged": trainer.ema is not None,  # whether these are the averaged weights
        "teacher_sha256": state.teacher_sha256,  # of the frozen networks' weights; null: has none
        "model_sha256": sha256_file(layout.weights),
        "metrics_sha256": sha256_file(layout.metrics),
        "failed_clips": state.failed_clips,  # left out of training, and why; nothing replaced them
        "sessions": state.sessions,
        "fingerprint": fingerprint(checkpoints.settings),
        "code": checkpoints.code,
        "code_changes": checkpoints.code_changes,
        "pictures_sha256": checkpoints.settings["data"]["pictures"],
        "inherited": checkpoints.settings.get("inherited", {}),
        **clustering.record(context),
        **_mixture_record(context, state.done * trainer.batch_size),
        "online_evaluation": context.online.record() if context.online else None,
        "clips": len(context.entries),
        "clip": context.clip.model_dump(mode="json"),
        "provenance": context.provenance,
    }
