"""Tensors out of a checkpoint, wherever its training has put them, and without unpickling.

PyTorch's format is read by its own restricted reader. Values that trainings often leave beside the
weights (paths, numpy's numbers, times, configurations) are passed over: what stands for them here
takes whatever the file says and does nothing with it. Any other object is refused and named.
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import UserError

# Where trainings keep a model's tensors, one within the other, too.
HOLDERS = (
    *("model", "module", "state_dict", "model_state", "model_state_dict", "model_states"),
    *("net", "network", "weights", "params"),
    *("ema_encoder", "target_encoder", "encoder", "backbone"),
)
DEEPEST = 5  # of them, one within the other
# What compilation, activation checkpointing and FSDP put into names.
WRAPPERS = {"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"}
OWN = {"encoder", "blocks", "videomae", "decoder"}  # first parts of names that are no prefix
COUNTERS = {"n_averaged"}  # beside the weights of torch.optim.swa_utils.AveragedModel
SAVE_AGAIN = (
    "where it was made, save its tensors alone: "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
)
SHOWN, LONGEST = 4, 80  # names in one message, letters of each
MOST_SHARED = 4  # times that what is stored may be used by several tensors
PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
PASSED_OVER = (
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in PATHS),
    *(
        f"{core}.{name}"
        for core in ("numpy.core", "numpy._core")
        for name in ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")
    ),
    *("numpy.dtype", "numpy.ndarray", "numpy.bool_"),
    *("datetime.datetime", "datetime.date", "datetime.time", "datetime.timedelta"),
    *("datetime.timezone", "decimal.Decimal", "fractions.Fraction", "uuid.UUID"),
    *("types.SimpleNamespace", "builtins.range", "builtins.slice", "builtins.frozenset"),
    *(
        f"builtins.{kind}"
        for kind in ("int", "float", "bool", "str", "bytes", "list", "dict", "tuple")
    ),
)


class _PassedOver:
    """Stands for a value that is not needed: it is given what the file says and keeps nothing."""

    def __new__(cls, *_: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _dictionary(*_: object) -> dict[Any, Any]:
    """Stands for `collections.defaultdict`: its items follow."""
    return {}


def read(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a checkpoint, and the training's arguments beside them, if any.

    Names are without the prefixes that wrappers put before all of them (`module.`, `_orig_mod.`).

    Raises:
        UserError: where it cannot be read without running code of it, is damaged, holds no
            tensors, or tensors that claim more numbers than the file holds.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        try:
            content: Any = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} cannot be read as safetensors: {error}") from None
    else:
        content = _unpickled(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a checkpoint's tensors")
    arguments = content.get("args")
    values = vars(arguments) if isinstance(arguments, argparse.Namespace) else {}
    tensors = plain_names(_tensors(content, path), path)
    _refuse_claims(tensors, path)
    return tensors, values


def plain_names(tensors: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Take off what stands before all names alike, and what wrappers have put into some."""
    names = {
        name: ".".join(part for part in name.split(".") if part not in WRAPPERS)
        for name in tensors
        if name not in COUNTERS
    }
    bare = names
    while len(first := {name.partition(".")[0] for name in bare.values()}) == 1:
        prefix = first.pop()
        if prefix in OWN or any("." not in name for name in bare.values()):
            break
        bare = {key: name.removeprefix(f"{prefix}.") for key, name in bare.items()}
    if any(name.partition(".")[0] in OWN for name in bare.values()):  # else it was no wrapper's
        names = bare
    if len(set(names.values())) < len(names):
        raise UserError("two of its tensors have one name", place=str(path), remedy=SAVE_AGAIN)
    return {plain: tensors[name] for name, plain in names.items()}


def _unpickled(path: Path) -> Any:
    allowed: list[Any] = [argparse.Namespace, (_dictionary, "collections.defaultdict")]
    allowed += [(_PassedOver, name) for name in PASSED_OVER]
    with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old formats and protocols
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001 - torch.load has no exception of its own
            raise _explained(path, error) from None


def _explained(path: Path, error: Exception) -> UserError:
    """Return what is wrong with the file: torch's own text advises to trust it."""
    if isinstance(error, OSError) and error.strerror:
        return UserError(f"{path} cannot be read: {error.strerror}")
    text = str(error)
    named = _unsafe(path) or re.findall(r"GLOBAL (\S+)", text)
    if named:
        return UserError(
            f"{path} cannot be read safely: beside tensors it holds {some(named)}, and to make "
            "these again would run code",
            remedy=SAVE_AGAIN,
        )
    if "TorchScript" in text:
        return UserError(
            f"{path} cannot be read: it is a TorchScript program, not tensors", remedy=SAVE_AGAIN
        )
    if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
        return UserError(
            f"{path} cannot be read safely: what it holds beside tensors is not plain values",
            remedy=SAVE_AGAIN,
        )
    return UserError(
        f"{path} cannot be read as a checkpoint: it is damaged, cut short, or no file of PyTorch's",
        remedy="fetch it again, and compare its SHA-256 with the publisher's",
    )


def _unsafe(path: Path) -> list[str]:
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # noqa: BLE001 - it is damaged, or of the old format
        return []


def _tensors(content: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """Descend to where the tensors are."""
    top, known = content, dict[int, bool]()
    for _ in range(DEEPEST):
        within = [k for k, v in content.items() if _has_tensors(v, known)]
        holder = next((name for name in HOLDERS if name in within), None)
        if holder is None and not _of(content) and len(within) == 1:
            holder = within[0]
        if holder is None:
            break
        content = content[holder]
    if named := _of(content):
        return named
    if within:
        raise UserError(
            f"several of its keys hold tensors: {some(within)}",
            place=str(path),
            remedy="save the tensors of the model alone",
        )
    keys = f"; its keys are {some(top)}" if top else ""
    raise UserError(f"it holds no tensors that have names{keys}", place=str(path))


def _of(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {k: v for k, v in content.items() if isinstance(v, Tensor) and isinstance(k, str)}


def _has_tensors(content: object, known: dict[int, bool], depth: int = DEEPEST) -> bool:
    """Whether tensors have names in it or further within; those of an optimiser have numbers.

    Each mapping is looked at once, for a file may hold one in itself.
    """
    if not isinstance(content, Mapping) or not depth:
        return False
    if id(content) not in known:
        known[id(content)] = False
        known[id(content)] = bool(_of(content)) or any(
            isinstance(key, str) and _has_tensors(value, known, depth - 1)
            for key, value in content.items()
        )
    return known[id(content)]


def _refuse_claims(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors of more numbers than are stored: what is built after them would not end."""
    stored: dict[int, int] = {}
    for name, tensor in tensors.items():
        plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided
        if plain and not (tensor.is_meta or tensor.is_quantized or tensor.is_nested):
            storage = tensor.untyped_storage()
            stored[storage.data_ptr()] = storage.nbytes()
            if storage.nbytes() >= tensor.numel() * tensor.element_size():
                continue
        raise UserError(
            f"its tensor {name} is not stored in full", place=str(path), remedy=SAVE_AGAIN
        )
    claimed = sum(each.numel() * each.element_size() for each in tensors.values())
    if claimed > MOST_SHARED * sum(stored.values()):
        raise UserError(
            "its tensors share what is stored of them", place=str(path), remedy=SAVE_AGAIN
        )


def some(names: Iterable[object]) -> str:
    """Return the first few of these names, and how many more there are."""
    listed = [str(name)[:LONGEST] for name in names]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
