"""How many cores feed one accelerator: the section of docs/reproducing.md, from measured rates."""

from __future__ import annotations

import math
from typing import NamedTuple


class Storage(NamedTuple):
    """How clips lie in shards, and what that costs."""

    data: str
    codec: str
    bytes_per_clip: int
    core_ms: float  # of loading a clip, by CPU time


# Seven real videos at 320 pixels, 16 frames to 224 x 224, torchcodec, in turns on a busy machine:
# python -m benchmarks.loader --workers 0 --short-side 320 --data k400 (k400_lean)
STORED = (
    Storage("k400", "h264", 1_274_149, 52.2),
    Storage("k400", "jpeg", 6_094_913, 15.6),
    Storage("k400", "raw", 118_480_859, 7.1),
    Storage("k400_lean", "h264", 712_653, 31.6),
    Storage("k400_lean", "jpeg", 1_576_890, 15.1),
    Storage("k400_lean", "raw", 30_361_362, 6.1),
)
HAND_OVER_MS = 0.5  # of the training process's time, for a clip that a worker made: 2.4 MB
# Clips/s of a training step on one GPU, by recipe: (H100, H200); None where it is not measured.
# python -m benchmarks.accelerator, compiled, 256 clips (vit_small: 128).
STEPS: dict[str, tuple[float | None, float | None]] = {
    "vit_small, dino": (None, 720),
    "vit_base, mlp": (None, 1_029),
    "vit_base, dino": (None, 627),
}
ASSUMED = 1_000  # clips/s, until a step is measured


def feeding() -> str:
    """Return the section: rates of a core, then the cores of a GPU."""
    lines = [
        "## Cores that feed one GPU",
        "",
        "`data=k400_lean` (any recipe of Kinetics-400 takes it) stores 7.5 pictures a second and "
        "reads them at stride 1: of videos at 30 a second, the pictures that `k400` takes at "
        "stride 4, without those between. Seven real videos at 320 pixels in both, torchcodec, by "
        "CPU time on a machine that other jobs kept busy; alone, a core is up to twice as fast.",
        "",
        "| data, codec | MB a clip | ms of a core a clip | clips/s of a core "
        f"| cores for {ASSUMED:,} clips/s |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{each.data}`, `{each.codec}` | {each.bytes_per_clip / 1e6:.1f} | {each.core_ms:.1f} "
        f"| {1000 / each.core_ms:.0f} | {cores(ASSUMED, each)} |"
        for each in STORED
    ]
    lines += [
        "",
        f"The process that trains spends {HAND_OVER_MS:g} ms on a clip that a worker hands over, "
        "in a thread beside the step, and a copy to pinned memory. Several masks a clip "
        "(`objective.masks_per_clip`) are so many clips of a step for one that is loaded.",
        "",
        "| step | H100: clips/s | H200: clips/s | cores, `k400` `h264` | cores, `k400_lean` `h264` "
        "| cores, `k400_lean` `jpeg` |",
        "|---|---|---|---|---|---|",
    ]
    shown = [STORED[0], STORED[3], STORED[4]]
    for name, rates in STEPS.items():
        most = max((rate for rate in rates if rate), default=None)
        cells = [f"{rate:,.0f}" if rate else "not measured" for rate in rates]
        cells += [str(cores(most, each)) if most else "" for each in shown]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cores(clips_per_s: float, storage: Storage) -> int:
    """Return how many cores load so many clips a second."""
    return math.ceil(clips_per_s * storage.core_ms / 1000)
