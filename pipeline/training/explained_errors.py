"""What ends a training from outside, said on one screen that names the last good checkpoint."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator

import torch
from safetensors import SafetensorError

from pipeline.errors import UserError, first_line
from pipeline.runtime.accelerators import VARIABLE
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.runtime.ranks import Ranks, is_collective_error, lost_process

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextlib.contextmanager
def explained(checkpoints: Checkpoints, ranks: Ranks) -> Iterator[None]:
    """Turn into a UserError what goes wrong around the training, within the block.

    That is a full or read-only disk, a process that died or hangs, too little memory of the
    accelerator, an operation that torch has not on it, and no compiler for `torch.compile`. Any
    process of a run may meet it; `ranks.process_group` ends the others too.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{ranks.name}: the accelerator's memory does not suffice: {first_line(error)}",
            place="trainer.accumulation, model.activation_checkpointing",
            remedy=f"raise the one or switch on the other, then run again; {_last(checkpoints)}",
        ) from error
    except RuntimeError as error:
        explanation = _of_torch(error, checkpoints, ranks)
        if explanation is None:
            raise
        raise explanation from error
    except OSError as error:
        if error.errno not in FULL | REFUSED:
            raise
        name = error.filename or checkpoints.folder.parent
        raise _unwritten(checkpoints, error.errno, str(error.strerror), str(name)) from error
    except SafetensorError as error:  # written in Rust, which has no errno but in words
        number = re.search(r"os error (\d+)", str(error))
        if number is None or int(number[1]) not in FULL | REFUSED:
            raise
        place = str(checkpoints.folder.parent)
        raise _unwritten(checkpoints, int(number[1]), first_line(error), place) from error


def _of_torch(error: RuntimeError, checkpoints: Checkpoints, ranks: Ranks) -> UserError | None:
    """Return what can be done about an error of torch's; None: it is another one."""
    said = first_line(error)
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return UserError(
            f"{ranks.name}: the model cannot be compiled: {said}",
            place="trainer.compile, objective.target.compile",
            remedy="install a C compiler and Python's headers (gcc, python3-dev), or set both "
            f"to false, which changes no result; {_last(checkpoints)}",
        )
    if isinstance(error, NotImplementedError) and "MPS" in str(error):
        return UserError(
            f"{ranks.name}: torch lacks an operation on mps: {said}",
            place=VARIABLE,
            remedy="set PYTORCH_ENABLE_MPS_FALLBACK=1, which leaves it to the CPU, or "
            f"{VARIABLE}=cpu; {_last(checkpoints)}",
        )
    return lost_process(ranks, error, _last(checkpoints)) if is_collective_error(error) else None


def _unwritten(checkpoints: Checkpoints, number: int | None, why: str, place: str) -> UserError:
    first = "make room" if number in FULL else "allow writing there"
    return UserError(
        f"the results of {checkpoints.label} cannot be written: {why}",
        place=place,
        remedy=f"{first}, then run the same command again and it goes on; {_last(checkpoints)}",
    )


def _last(checkpoints: Checkpoints) -> str:
    try:
        return checkpoints.last_good()
    except OSError as error:
        return f"the checkpoints in {checkpoints.folder} cannot be read: {error.strerror}"
