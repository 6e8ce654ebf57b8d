"""Augmented clips for fine-tuning, as uint8 batches made from the step's number alone.

A clip that occurs R times in a batch (repeated augmentation, Hoffer et al. 2020) is decoded and
augmented R times. RandAugment is timm's, which draws from Python's and NumPy's global generators:
these are seeded for each frame anew, so that all frames of a clip get the same operations, and are
put back afterwards.

Shapes: B clips of a batch with repetitions, T frames, H height, W width.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.configuration.schema import Clip, Finetune, RandAugment
from pipeline.data.load import crops, decoders, order, prefetch, sampling
from pipeline.data.load.frame_source import FrameSource
from pipeline.data.load.options import IN_THIS_PROCESS, LoaderOptions
from pipeline.data.load.shared_videos import SharedVideos, empty
from pipeline.data.load.workers import load_in_order
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.remote import Wanted
from pipeline.method.pixels import MEAN
from pipeline.runtime import accelerators

Transform = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class TrainingBatch:
    """What fine-tuning learns from in one step."""

    step: int
    videos: Tensor  # uint8 (B,T,H,W,3)
    indices: Tensor  # int64 (B,): which entries they are


@dataclass
class TrainingSteps(Dataset[TrainingBatch]):
    """Step number -> batch. One copy lives in every worker."""

    entries: Sequence[ClipEntry]
    clip: Clip
    settings: Finetune
    source: FrameSource
    shared: SharedVideos | None = None  # where the videos of a step are written

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a batch's videos: B,T,H,W,3."""
        return self.settings.batch_size, self.clip.frames, self.clip.size, self.clip.size, 3

    def __getitem__(self, step: int) -> TrainingBatch:
        chosen, repeated = self._chosen(step), self.settings.augmentation.repeated
        self.source.expect(step, lambda n: [Wanted(self.entries[k]) for _, k in self._chosen(n)])
        indices = [index for _, index in chosen for _ in range(repeated)]
        videos = empty(self.shared, step, (len(indices), *self.shape[1:]))
        made = (video for sample in chosen for video in self.samples(*sample, repeated))
        for place, video in enumerate(made):
            videos[place] = video
        return TrainingBatch(step, torch.from_numpy(videos), torch.tensor(indices))

    def _chosen(self, step: int) -> list[tuple[int, int]]:
        """Return (epoch, index of its clip) of each clip of a step."""
        size = self.settings.batch_size // self.settings.augmentation.repeated
        return order.batch(self.settings.seed, step, n=len(self.entries), batch_size=size)

    def samples(self, epoch: int, index: int, count: int) -> Iterator[decoders.Frames]:
        """Yield `count` differently augmented clips, uint8 (T,H,W,3), of one entry."""
        entry, clip, augmentation = self.entries[index], self.clip, self.settings.augmentation
        rng = order.sample_rng(self.settings.seed, epoch, index)
        for _ in range(count):
            chosen = sampling.random(entry.frames, clip, self.settings.sampling, rng)
            area, aspect, seed = augmentation.area, augmentation.aspect, order.randint(rng, 2**32)
            window = crops.random_area(entry.height, entry.width, area, aspect, seed=seed)
            seed = order.randint(rng, 2**32)
            if augmentation.randaugment is None:
                video, window = self.source.read(entry, chosen, window), window.whole
            else:  # before the crop, as what an operation turns into view is then real
                video = augmented(self.source.read(entry, chosen), augmentation.randaugment, seed)
            flip = rng.random() < 0.5 and augmentation.flip
            yield crops.cut(video, window, clip.size, flip=flip)


def batches(
    entries: Sequence[ClipEntry],
    clip: Clip,
    settings: Finetune,
    steps: range,
    options: LoaderOptions = IN_THIS_PROCESS,
) -> Iterator[TrainingBatch]:
    """Yield the batches of these steps, in order, their videos on `options.device`."""
    dataset = TrainingSteps(entries, clip, settings, FrameSource(options.cache_mib))
    dataset.shared = prefetch.shared_with_workers(options, dataset.shape)
    loaded = load_in_order(dataset, steps, options.workers, dataset.shared)
    return prefetch.on_device(loaded, options.device, ahead=options.workers > 0)


def augmented(video: decoders.Frames, settings: RandAugment, seed: int) -> decoders.Frames:
    """Return uint8 (T,H,W,3): random operations of timm's, the same ones in each frame."""
    from timm.data.auto_augment import rand_augment_transform  # takes seconds

    grey = tuple(round(255 * part) for part in MEAN)
    name = f"rand-m{settings.magnitude}-n{settings.operations}-mstd{settings.deviation}-inc1"
    transform: Transform = rand_augment_transform(name, {"img_mean": grey})
    shown = []
    for frame in video:
        with seeded(seed):
            shown.append(np.asarray(transform(Image.fromarray(frame))))
    return np.stack(shown)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch; put them back.

    That of an accelerator is seeded where it is the `device`, and stays so.
    """
    before, numpy_before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed notes who calls it: 200 us
        if device is not None:
            accelerators.seed(device, seed)
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(numpy_before)
