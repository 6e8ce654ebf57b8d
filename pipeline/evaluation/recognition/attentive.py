"""The attentive probe: a learned query pools all tokens of a frozen encoder by cross-attention.

Protocol of V-JEPA (Bardes et al. 2024, section 4 and appendix): one cross-attention block with a
learned query, its MLP, and a linear layer. The block is timm's, behind a LayerNorm of the tokens.

Tokens are half as exact as features: they are rounded to float16, whether they are kept on disk
or computed anew for each epoch, so that keeping them changes nothing.

Shapes: n clips, b of a batch, V views, N tokens, D width of the encoder, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.data.load import prefetch
from pipeline.evaluation import rows
from pipeline.evaluation.clips import Clips
from pipeline.evaluation.recognition.heads import Arrays, Inputs
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.method.pooling import Tokens
from pipeline.runtime.devices import choose_device, fast_fp32
from pipeline.runtime.store import Store

GIB = 2**30


class AttentiveHead(nn.Module):
    """Logits (b, C) of tokens (b, N, D)."""

    def __init__(self, width: int, classes: int, attention_heads: int, mlp_ratio: float) -> None:
        from timm.layers.attention_pool import AttentionPoolLatent  # takes seconds

        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.pool = AttentionPoolLatent(
            width, num_heads=attention_heads, mlp_ratio=mlp_ratio, norm_layer=nn.LayerNorm
        )
        self.linear = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.pool(self.norm(tokens)))
        return logits


def tokens(
    network: Tokens,
    splits: Mapping[str, Clips],
    *,
    path: Path,
    key: Mapping[str, Any],
    options: ExecutionOptions,
    store_gib: float,
) -> Inputs:
    """Return the tokens of all clips: from disk, or, above `store_gib`, from the network.

    On disk they are in the store `PATH.SPLIT`, which an interrupted call goes on with.
    """
    n, d = network.count, network.encoder.width
    size = sum(len(clips.ids) * clips.views for clips in splits.values()) * n * d * 2
    if size > store_gib * GIB:
        print(f"[{options.label}] tokens would take {size / GIB:.1f} GiB: computed for each epoch")
        return Computed.of(network, splits, options)
    store_of: dict[str, Store] = {}
    for split, clips in sorted(splits.items()):
        store = Store(path.with_name(f"{path.name}.{split}"), key, "float16")
        kept = rows.compute(network, clips, store, options, network.encoder.grid.count)
        store_of |= dict.fromkeys(kept.ids, kept.store)
    return Arrays(lambda clip: store_of[clip].values(clip))


@dataclass(frozen=True)
class Computed:
    """Tokens that the frozen network gives again whenever they are asked for."""

    network: Tokens
    splits: Mapping[str, Clips]
    options: ExecutionOptions
    places: Mapping[str, tuple[str, int]]  # id -> split, place in it

    @classmethod
    def of(
        cls, network: Tokens, splits: Mapping[str, Clips], options: ExecutionOptions
    ) -> Computed:
        places = {
            clip: (split, place)
            for split, clips in splits.items()
            for place, clip in enumerate(clips.ids)
        }
        return cls(network.to(choose_device()).eval(), splits, options, places)

    def batches(self, ids: Sequence[str], batch_size: int) -> Iterator[Tensor]:
        (split,) = {self.places[clip][0] for clip in ids}  # all of one split: train, val or test
        places = [self.places[clip][1] for clip in ids]
        clips, device = self.splits[split], choose_device()
        waiting: list[Tensor] = []
        batches = clips.batches(places, self.options.batch_size, self.options.workers)
        for batch in prefetch.on_device(batches, device, ahead=self.options.workers > 0):
            with torch.no_grad(), fast_fp32(device, self.network.encoder.grid.count):
                tokens = rows.answers(self.network, batch.videos, self.options.batch_size, device)
            waiting.extend(tokens.cpu().to(torch.float16).unbind(0))
            while len(waiting) >= batch_size:
                yield torch.stack(waiting[:batch_size]).float()
                del waiting[:batch_size]
        if waiting:
            yield torch.stack(waiting).float()
