"""Which clip comes when, and the random numbers of each sample: pure functions, no state.

The stream of training samples is the epochs' permutations one after the other. Step s takes the
positions [s B, (s+1) B) of it, so a global batch may reach into the next epoch, and a data set
smaller than a batch goes round more than once in it. Each component of a mixture (`load.mixture`)
has such a stream, with epochs of its own, and each position is the next of one of them. A process
of rank r among w takes the r-th of w equal, contiguous parts of the global batch. What a sample
looks like (frames, crop, flip, mask) depends on seed, epoch and the clip's index, and on nothing
else; so neither the number of workers or processes nor the step that a run resumed at changes any
sample.

Random bits are Philox's, seeded by numpy's SeedSequence: numpy promises both to stay as they are,
which it does not of `Generator.integers` and `Generator.shuffle`. Samplers therefore draw with
`Generator.random` alone (a fixed function of the bits), through `randint` where they need integers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.data.load.mixture import ClipMixture

# First part of every key: streams that serve different ends never meet.
_ORDER, _SAMPLE, _AUGMENT, _STEP, _TUBES = 0, 1, 2, 3, 4

PART = 1 << 16  # clips: larger data sets are put in order part by part
_DRAWN = 1 << 18  # clips whose random bits are in memory at a time

Order = npt.NDArray[np.integer[Any]]


def permutation(seed: int, epoch: int, n: int, *component: int) -> npt.NDArray[np.int64]:
    """Return the order of `n` clips in one epoch: int64 (n,), a permutation of 0..n-1.

    Clips are sorted by 64 random bits each; of equal ones the lower index comes first. The number
    of a mixture's `component` makes it an order of its own.
    """
    part, starts = _kept(*component)
    parts = [part(seed, epoch, n, k) for k in range(len(starts(seed, epoch, n)))]
    return np.concatenate(parts, dtype=np.int64)


def _index(seed: int, epoch: int, n: int, place: int, *component: int) -> int:
    """Return `permutation(...)[place]`, and hold no more than one part of it."""
    part, starts = _kept(*component)
    begin = starts(seed, epoch, n)
    k = int(np.searchsorted(begin, place, side="right")) - 1
    return int(part(seed, epoch, n, k)[place - begin[k]])


@functools.cache
def _kept(*component: int) -> tuple[Callable[..., Order], Callable[..., Order]]:
    """Return `_part` and `_starts` of one component, which keep what they last gave.

    Neighbouring steps share parts and epochs; components would put out one another's.
    """
    keep = functools.lru_cache(maxsize=4)
    return (
        keep(lambda seed, epoch, n, part: _part(seed, epoch, n, part, *component)),
        keep(lambda seed, epoch, n: _starts(seed, epoch, n, *component)),
    )


def _part(seed: int, epoch: int, n: int, part: int, *component: int) -> Order:
    """Return one part of the order: the clips whose bits begin with the number `part`.

    Nobody holds the order of all clips, which every worker would need: 160 MB for ten million while
    it is sorted. Drawing their bits again takes 0.2 s, once in 40,000 clips.
    """
    indices, keys = [], []
    for start, bits in _bits(seed, epoch, n, *component):
        chosen = np.flatnonzero(_part_of(bits, n) == part)
        indices.append(chosen + start)
        keys.append(bits[chosen])
    ordered = np.concatenate(indices)[np.argsort(np.concatenate(keys), kind="stable")]
    return ordered.astype(np.min_scalar_type(n))


def _starts(seed: int, epoch: int, n: int, *component: int) -> Order:
    """Return where in the order each part begins."""
    parts = 1 << _leading_bits(n)
    sizes = np.zeros(parts, np.int64)
    for _, bits in _bits(seed, epoch, n, *component):
        sizes += np.bincount(_part_of(bits, n), minlength=parts)
    return np.cumsum(sizes) - sizes


def _leading_bits(n: int) -> int:
    """Return by how many leading bits the order is divided into parts of `PART` clips or fewer."""
    return max(0, (n - 1).bit_length() - PART.bit_length() + 1)


def _part_of(bits: npt.NDArray[np.uint64], n: int) -> npt.NDArray[np.int64]:
    leading = _leading_bits(n)
    if not leading:
        return np.zeros(len(bits), np.int64)
    return (bits >> np.uint64(64 - leading)).astype(np.int64)


def _bits(
    seed: int, epoch: int, n: int, *component: int
) -> Iterator[tuple[int, npt.NDArray[np.uint64]]]:
    """Yield the random bits by which the clips of an epoch are sorted, from which clip on."""
    stream = np.random.Philox(_key(seed, _ORDER, epoch, *component))
    for start in range(0, n, _DRAWN):
        yield start, stream.random_raw(min(_DRAWN, n - start))


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the source of all random numbers of clip `index` in one epoch."""
    return np.random.Generator(np.random.Philox(_key(seed, _SAMPLE, epoch, index)))


def step_rng(seed: int, step: int) -> np.random.Generator:
    """Return the source of what all clips of a step share."""
    return np.random.Generator(np.random.Philox(_key(seed, _STEP, step)))


def tubes_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the source of which tubes of clip `index` in one epoch are clustered."""
    return np.random.Generator(np.random.Philox(_key(seed, _TUBES, epoch, index)))


def augmentation_seed(seed: int, epoch: int, index: int) -> int:
    """Return the seed, below 2^63, of what `clips.augment` does to clip `index` in one epoch."""
    return int(_key(seed, _AUGMENT, epoch, index).generate_state(1, np.uint64)[0] >> np.uint64(1))


def randint(rng: np.random.Generator, n: int) -> int:
    """Return a uniform integer in 0..n-1."""
    return int(rng.random() * n)


def batch(
    seed: int,
    step: int,
    *,
    n: int,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    mixture: ClipMixture | None = None,
) -> list[tuple[int, int]]:
    """Return (epoch, clip index) of each sample that one process takes in one step.

    `batch_size` is the global one. The epoch of a sample of a mixture is that of its component: how
    often all clips of it came before. Raises ValueError where `batch_size` is not a multiple of
    `world`, or there are no clips.
    """
    if n < 1:
        raise ValueError("there are no clips to put in order")
    if batch_size % world or not 0 <= rank < world:
        raise ValueError(f"rank {rank} of {world} cannot share a batch of {batch_size}")
    part = batch_size // world
    first = step * batch_size + rank * part
    positions = range(first, first + part)
    if mixture is not None:
        return [_of_mixture(seed, position, mixture) for position in positions]
    return [(position // n, _index(seed, position // n, n, position % n)) for position in positions]


def _of_mixture(seed: int, position: int, mixture: ClipMixture) -> tuple[int, int]:
    """Return (epoch of its component, clip index) of one sample of a mixture."""
    component, before = mixture.locate(position)
    n = mixture.components[component].clips
    epoch, place = divmod(before, n)
    return epoch, mixture.starts[component] + _index(seed, epoch, n, place, component)


def epoch_of(step: int, *, n: int, batch_size: int) -> int:
    """Return the epoch that a step begins in: so many times `n` samples came before."""
    return step * batch_size // n


def total_steps(epochs: int, *, n: int, batch_size: int) -> int:
    """Return how many whole global batches `epochs` epochs of `n` clips hold.

    At least one where there is an epoch at all: the batch then reaches into further epochs.
    """
    return max(1, epochs * n // batch_size) if epochs else 0


def planned_steps(
    epochs: int, warmup_epochs: int, *, n: int, batch_size: int, least: int = 0
) -> tuple[int, int]:
    """Return how many steps a training has, and how many of them are of warm-up.

    Small data is repeated until there are `least` steps, and warm-up keeps its share of them. No
    epochs are no steps: the model is not trained.
    """
    planned = total_steps(epochs, n=n, batch_size=batch_size)
    if not planned:
        return 0, 0
    steps = max(planned, least)
    warmup = total_steps(warmup_epochs, n=n, batch_size=batch_size)
    return steps, min(steps, warmup * steps // planned)


def _key(seed: int, *parts: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed % 2**64, spawn_key=parts)
