"""An accelerator that this machine need not have: its tensors have no numbers.

They have shapes, types and devices (PyTorch's `FakeTensorMode`), and operations on them are checked
but not computed. What a real accelerator refuses, or is waited for, fails here, in the line that
does it:

- tensors of two devices in one operation, indices on another device than what they index;
- matrix products and norms of mixed types, and of types for which CUDA has no kernel;
- every way to ask for a number, or for a shape that depends on numbers (`item`, `nonzero`, boolean
  indexing, `bincount`, `if tensor:`, `.cpu()`), but for functions that are named as `may_wait`;
- a copy to the accelerator that is not `non_blocking`, such as that of a constant, or not from
  pinned memory.

Torch is built for one kind of accelerator, so the device is called `cuda` always. `like` gives it
what others lack: float64 on Apple's (`mps`) and on Intel's for desktops (`arc`) and, on Apple's,
streams, products summed in float32, and copies that need not be waited for.

What lies on the CPU is computed as ever. A backward pass needs a real device: here it walks from
the loss to the parameters and gives each a gradient.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
PACKAGE = Path(__file__).resolve().parents[1] / "pipeline"
CUDA = torch.device("cuda", 0)
LACKING: dict[str, dict[str, set[str]]] = {  # names of `pipeline.method.capabilities`
    "cuda": {},
    "arc": {"WITHOUT_FLOAT64": {"cuda"}, "WITH_FLOAT32_SUMS": set()},
    "mps": {
        "WITHOUT_FLOAT64": {"cuda"},
        "WITH_FLOAT32_SUMS": set(),
        "WITH_STREAMS": set(),
        "WAITED_FOR": {"cuda"},
    },
}
FLOATING = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
EXACT = {torch.float32, torch.float64}
# All of these take tensors of one type, and only these types, where a CPU is not so strict.
ONE_TYPE: dict[Any, set[torch.dtype]] = {
    aten.mm: FLOATING,
    aten.bmm: FLOATING,
    aten.addmm: FLOATING,
    aten.addmv: FLOATING,
    aten.baddbmm: FLOATING,
    aten.mv: FLOATING,
    aten.dot: FLOATING,
    aten.convolution: FLOATING,
    aten.native_layer_norm: FLOATING,
    aten._softmax: FLOATING,
    aten._log_softmax: FLOATING,
    aten.linalg_vector_norm: FLOATING,
    aten._linalg_svd: EXACT,
    aten._linalg_eigh: EXACT,
    aten.linalg_qr: EXACT,
    aten.linalg_cholesky_ex: EXACT,
    aten._scaled_dot_product_flash_attention: {torch.float16, torch.bfloat16},
    aten._scaled_dot_product_efficient_attention: FLOATING - {torch.float64},
    aten.upsample_bilinear2d: FLOATING,
    aten.uniform_: FLOATING,
    aten.bernoulli_: FLOATING,
}
# These have no shape until the device has counted something.
COUNTING = {
    aten.nonzero,
    aten.masked_select,
    aten.bincount,
    aten.histc,
    aten.repeat_interleave,
    aten._unique2,
    aten.unique_consecutive,
    aten.unique_dim,
    aten.equal,
}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
to_list = Tensor.tolist
COPYING = {aten._to_copy, aten.copy_}


class RefusedError(AssertionError):
    """What an accelerator would refuse or be waited for."""


class FakeAccelerator(TorchDispatchMode):
    """Checks all that is asked of the device; `waits` are the places that have waited for it."""

    def __init__(
        self,
        fake: FakeTensorMode,
        may_wait: Sequence[Callable[..., Any]] = (),
        like: str = "cuda",
    ) -> None:
        super().__init__()
        self.fake, self.like = fake, like
        self.may_wait = {inspect.unwrap(function).__code__ for function in may_wait}
        self.waits: list[str] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        given = [each for each in tensors if isinstance(each, FakeTensor)]
        target = kwargs.get("device")
        if not given and (target is None or torch.device(target).type == "cpu"):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        operation = func.overloadpacket
        if operation == aten.to:  # in inference mode it comes whole
            with self:
                return func.decompose(*args, **kwargs)
        if operation in COPYING:
            back = self._copied(operation, args, kwargs)
            if back is not None:
                return back
        elif operation == aten._local_scalar_dense:
            self._wait(operation)
            return 1.0 if given[0].is_floating_point() else 1
        elif operation in COUNTING:
            raise RefusedError(f"{operation} waits for the device to count")
        if operation in INDEXING:
            _check_indices(args)
        if operation in ONE_TYPE:
            _check_types(operation, given, kwargs)
        if operation == aten._foreach_lerp_ or operation == aten.lerp_:
            _check_types(operation, given, kwargs, FLOATING)
        args, kwargs = tree_map(self._on_device, (args, kwargs))
        result = func(*args, **kwargs)
        self._check_float64(operation, result)
        return result

    def _check_float64(self, operation: Any, result: Any) -> None:
        made = [each for each in tree_leaves(result) if isinstance(each, FakeTensor)]
        wide = any(each.dtype == torch.float64 and each.device == CUDA for each in made)
        if wide and self.like != "cuda":
            raise RefusedError(f"{operation} makes float64, which {self.like} has not")

    def _on_device(self, value: Any) -> Any:
        real = isinstance(value, Tensor) and not isinstance(value, FakeTensor)
        return self.fake.from_tensor(value) if real else value

    def _copied(self, operation: Any, args: Any, kwargs: Mapping[str, Any]) -> Tensor | None:
        """Look at a copy between devices; return the numbers where it is back to the CPU."""
        if operation == aten._to_copy:
            source, device = args[0], kwargs.get("device") or args[0].device
            does_not_wait = kwargs.get("non_blocking", False)
        else:
            source, device = args[1], args[0].device
            does_not_wait = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        to = torch.device(device).type
        if source.device.type == "cuda" and to == "cpu":
            self._wait(operation)
            with unset_fake_temporarily():
                return torch.ones(source.shape, dtype=kwargs.get("dtype") or source.dtype)
        if source.device.type == "cpu" and to == "cuda" and self.like == "mps":
            if does_not_wait:
                raise RefusedError("a copy to mps that is not waited for may read others' memory")
        elif source.device.type == "cpu" and to == "cuda":
            if not does_not_wait:
                raise RefusedError("a copy to the device that is not non_blocking: a constant?")
            if not hasattr(source, "is_called_pinned"):
                raise RefusedError("a copy to the device from memory that is not pinned")
        return None

    def _wait(self, operation: Any) -> None:
        frame = inspect.currentframe()
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(PACKAGE):
                if frame.f_code not in self.may_wait:
                    break
                self.waits.append(f"{path.stem}.{frame.f_code.co_name}")
                return
            frame = frame.f_back
        raise RefusedError(f"{operation} waits for the device")


def _check_indices(args: Any) -> None:
    for index in args[1]:
        if index is None:
            continue
        if index.dtype in (torch.bool, torch.uint8):
            raise RefusedError("boolean indexing waits for the device to count")
        if index.device != args[0].device:
            raise RefusedError(f"indices on {index.device} of a tensor on {args[0].device}")


def _check_types(
    operation: Any,
    tensors: Sequence[Tensor],
    kwargs: Mapping[str, Any],
    allowed: set[torch.dtype] | None = None,
) -> None:
    out = kwargs.get("out")  # may be wider, where `out_dtype` says so
    dtypes = {each.dtype for each in tensors if each is not out}
    if len(dtypes) > 1 or not dtypes <= (allowed or ONE_TYPE[operation]):
        raise RefusedError(f"{operation} of {', '.join(sorted(map(str, dtypes)))} has no kernel")


def _walk_back(loss: Tensor, *_: object, **__: object) -> None:
    """In place of `Tensor.backward`: every parameter that the loss depends on gets a gradient."""
    assert loss.requires_grad, "nothing to learn"
    assert loss.dtype == torch.float32
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            node.variable.grad = torch.empty_like(node.variable)
        waiting += [each for each, _ in node.next_functions]


def _pinned(tensor: Tensor) -> Tensor:
    """In place of `Tensor.pin_memory`: the same numbers, with a mark."""
    copy = tensor.clone()
    copy.is_called_pinned = True  # type: ignore[attr-defined]
    return copy


def _to_list(tensor: Tensor) -> Any:
    """In place of `FakeTensor.tolist`, which asks for each number by itself."""
    return to_list(tensor.cpu())


class _Stream:
    """Of `torch.cuda`: what is asked of it happens at once."""

    def __init__(self, device: torch.device | None = None) -> None:
        del device

    def wait_stream(self, other: _Stream) -> None:
        """Wait for the other, which has nothing to do."""


@contextlib.contextmanager
def accelerator(
    *networks: nn.Module,
    may_wait: Sequence[Callable[..., Any]] = (),
    like: str = "cuda",
) -> Iterator[FakeAccelerator]:
    """Put networks on a fake accelerator, and let torch believe that there is one."""
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode() as fake:
        patch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
        patch.setattr("torch.cuda.is_bf16_supported", lambda *_, **__: True)
        patch.setattr("torch.cuda.current_stream", _Stream)
        patch.setattr("torch.cuda.Stream", _Stream)
        patch.setattr("torch.cuda.stream", lambda _: contextlib.nullcontext())
        for name, kinds in LACKING[like].items():
            patch.setattr(f"pipeline.method.capabilities.{name}", kinds)
        if like != "cuda":
            patch.setattr("pipeline.method.accelerated.has_triton", lambda: False)
        patch.setattr(Tensor, "backward", _walk_back)
        patch.setattr(Tensor, "pin_memory", _pinned)
        patch.setattr(FakeTensor, "tolist", _to_list)
        for network in networks:
            move(network)
        with FakeAccelerator(fake, may_wait, like) as mode:
            yield mode


def move(network: nn.Module) -> nn.Module:
    """Swap all tensors of a network for ones without numbers, on the accelerator."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        return network._apply(lambda real: torch.empty(real.shape, dtype=real.dtype, device=CUDA))
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
