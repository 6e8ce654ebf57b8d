"""How a model and its optimiser are spread over processes: one module per engine.

`build` makes the one that `trainer.engine` names; `engine.Engine` says what all of them can do.
A module is imported only where it is chosen: DeepSpeed is an extra, and takes seconds.
"""

from __future__ import annotations

from pipeline.configuration.schema import Trainer
from pipeline.errors import UserError
from pipeline.method.sigma import SigmaModel
from pipeline.runtime.accelerators import VARIABLE
from pipeline.runtime.precision import Precision
from pipeline.runtime.ranks import Ranks
from pipeline.training.engines.engine import Engine

__all__ = ["Engine", "build", "check_kind"]

# Kinds of accelerators that not all engines work on: torch has no collectives for Apple's, and
# DeepSpeed wants further packages for Intel's.
OFFERED = {"mps": ("single",), "xpu": ("single", "ddp", "fsdp")}


def check_kind(trainer: Trainer, kind: str | None) -> None:
    """Refuse an engine that does not work on this kind of accelerator (None: the CPU).

    Raises:
        UserError: naming both.
    """
    offered = OFFERED.get(kind or "", (trainer.engine,))
    if trainer.engine not in offered:
        one = ", with trainer.devices=1 and trainer.nodes=1" if offered == ("single",) else ""
        raise UserError(
            f"engine {trainer.engine!r} is not offered on {kind}",
            place=f"trainer.engine, {VARIABLE}",
            remedy=f"set trainer.engine to {' or '.join(offered)}{one}, or train on the CPU "
            f"({VARIABLE}=cpu)",
        )


def build(model: SigmaModel, trainer: Trainer, ranks: Ranks, precision: Precision) -> Engine:
    """Spread `model`, which lies on its device, over the processes, with a new optimiser.

    Raises:
        UserError: where DeepSpeed is asked for and not installed.
    """
    match trainer.engine:
        case "ddp":
            from pipeline.training.engines.ddp import DdpEngine

            return DdpEngine(model, trainer, ranks, precision)
        case "fsdp":
            from pipeline.training.engines.fsdp import FsdpEngine

            return FsdpEngine(model, trainer, ranks, precision)
        case "deepspeed":
            from pipeline.training.engines.deepspeed import DeepSpeedEngine

            return DeepSpeedEngine(model, trainer, ranks, precision)
        case "single":
            return Engine(model, trainer, ranks, precision)
