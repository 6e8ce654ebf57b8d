"""What the schedules of a run give to each step: rate, weight decay, share of an average."""

from __future__ import annotations

from pipeline.configuration.schema import Run, Trainer
from pipeline.data.load.order import planned_steps
from pipeline.method.targets import AveragedTarget
from pipeline.runtime.optimisers import (
    StepValues,
    momenta,
    scaled_rate,
    schedule,
    stretched_schedule,
)


def steps_of(trainer: Trainer, clips: int) -> tuple[int, int]:
    """How many steps a training on so many clips has, and how many of them are of warm-up."""
    return planned_steps(
        trainer.epochs,
        trainer.warmup_epochs,
        n=clips,
        batch_size=trainer.batch_size,
        least=trainer.least_steps,
    )


def learning_rates(trainer: Trainer, clips: int) -> list[float]:
    """The rate of each step: warm-up and cosine, scaled by the global batch.

    Steps stand in for epochs, since a batch may reach into the next epoch.
    """
    settings = trainer.optimiser
    steps, warmup = steps_of(trainer, clips)
    base, final, start = (
        scaled_rate(rate, trainer.batch_size)
        for rate in (settings.base_lr, settings.final_lr, settings.warmup_lr)
    )
    if settings.stretch is None:
        rates = schedule(
            base, final, epochs=steps, steps_per_epoch=1, warmup_epochs=warmup, start=start
        )
    else:
        rates = stretched_schedule(
            base, final, steps=steps, warmup=warmup, start=start, stretch=settings.stretch
        )
    return [float(rate) for rate in rates]


def step_values(run: Run, clips: int) -> list[StepValues]:
    """What the schedules give to each step of a training on so many clips."""
    settings, target = run.trainer.optimiser, run.objective.target
    rates = learning_rates(run.trainer, clips)
    steps = len(rates)
    stretch, last = settings.stretch or 1.0, settings.final_weight_decay
    decays: list[float | None] = [None] * steps
    if last is not None:
        first = settings.weight_decay
        decays = [*map(float, stretched_schedule(first, last, steps=steps, stretch=stretch))]
    averages = [1.0] * steps
    if isinstance(target, AveragedTarget):
        first, last = target.momentum, target.final_momentum
        averages = [*map(float, momenta(first, last, steps=steps, stretch=stretch))]
    return [StepValues(*each) for each in zip(rates, decays, averages, strict=True)]
