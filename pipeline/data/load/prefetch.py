"""Batches on the device that computes with them, copied while it computes with earlier ones.

An accelerator copies beside its computing where the host's memory is pinned and the copy is on a
stream of its own. Pinning copies a batch once more on the host, so a thread does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pipeline.data.load.options import LoaderOptions
from pipeline.data.load.shared_videos import AnyBatch, SharedVideos
from pipeline.method.capabilities import has_streams, streams
from pipeline.method.pixels import to_device


def shared_with_workers(options: LoaderOptions, shape: tuple[int, ...]) -> SharedVideos | None:
    """Return memory for batches of at most this shape, where `on_device` copies each out of it."""
    if options.workers and options.device is not None and options.device.type != "cpu":
        return SharedVideos(shape, options.workers)
    return None


def on_device(
    batches: Iterator[AnyBatch], device: torch.device | None, *, ahead: bool
) -> Iterator[AnyBatch]:
    """Return the same batches in the same order, their videos on `device`; on a CPU as they are.

    With `ahead`, and where the device copies beside its computing, a thread takes each batch from
    `batches` and copies it while the caller works with the one before: only where other processes
    make them, as it may not draw from this process's random generators. An error of `batches` is
    raised in the place of its batch.
    """
    if device is None or device.type == "cpu":
        return batches
    if ahead and has_streams(device):
        return _one_ahead(batches, SideStream(device))
    return (replace(batch, videos=to_device(batch.videos, device)) for batch in batches)


class SideStream:
    """Copies to an accelerator, beside what its current stream computes."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.queues = device, streams(device)
        self.stream = self.queues.Stream(device)

    def send(self, videos: Tensor) -> tuple[Tensor, Any]:
        """Begin to copy; return the copy and what happens when it is complete."""
        with self.queues.stream(self.stream):  # chooses the device for this thread, too
            return to_device(videos, self.device), self.stream.record_event()

    def receive(self, sent: tuple[Tensor, Any]) -> Tensor:
        """Return a copy that the caller's stream may use: it waits, this process does not."""
        videos, copied = sent
        current = self.queues.current_stream(self.device)
        current.wait_event(copied)
        videos.record_stream(current)  # its memory is free once this stream is done with it, too
        return videos


def _one_ahead(batches: Iterator[AnyBatch], side: SideStream) -> Iterator[AnyBatch]:
    def send(batch: AnyBatch | None) -> tuple[AnyBatch, tuple[Tensor, Any]] | None:
        return None if batch is None else (batch, side.send(batch.videos))

    first = next(batches, None)  # here, for it starts the processes that make batches
    thread = ThreadPoolExecutor(1, "prefetch")
    try:
        waiting = thread.submit(send, first)
        while (sent := waiting.result()) is not None:
            waiting = thread.submit(lambda: send(next(batches, None)))
            batch, videos = sent
            yield replace(batch, videos=side.receive(videos))
    finally:
        thread.shutdown(cancel_futures=True)
