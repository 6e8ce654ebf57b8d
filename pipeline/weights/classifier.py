"""The network that is fine-tuned: encoder, mean of its tokens, a norm, linear map.

Fine-tuning protocol of VideoMAE (Tong et al. 2022), which the paper follows (section 4): the
encoder's last LayerNorm is replaced by one after the mean, and no tube is masked.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from pipeline.configuration import build
from pipeline.configuration.schema import Clip, Model
from pipeline.method.pooling import changing_tubes
from pipeline.method.vit import NORM_EPS


class Classifier(nn.Module):
    """Logits B,C of videos B,3,T,H,W for C classes.

    A new head starts as a normal of deviation 0.02 (cut at one deviation) times `head_scale`,
    with zero bias. `norm="batch"` normalises the pooled features over the batch, without scale
    and shift (linear probe of He et al. 2022, appendix A.1), in place of LayerNorm. `drop_tubes` is
    the share of a clip's tubes, those that change least, that the encoder does not see (EVEREST).
    """

    def __init__(
        self,
        model: Model,
        clip: Clip,
        classes: int,
        *,
        head_scale: float = 1.0,
        norm: Literal["layer", "batch"] = "layer",
        drop_tubes: float = 0.0,
    ) -> None:
        super().__init__()
        self.drop_tubes = drop_tubes
        self.encoder = build.encoder(model, clip, final_norm=False)
        width = self.encoder.pooled_width
        self.fc_norm: nn.Module = nn.LayerNorm(width, eps=NORM_EPS)
        if norm == "batch":
            self.fc_norm = nn.BatchNorm1d(width, affine=False, eps=NORM_EPS)
        self.head = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02, a=-0.02, b=0.02)
        self.head.weight.data.mul_(head_scale)
        nn.init.zeros_(self.head.bias)

    def features(self, videos: Tensor) -> Tensor:
        """Pooled features B,D, normalised: of all tokens, or the mean of tubes not dropped."""
        normalised: Tensor = self.fc_norm(self._pooled(videos))
        return normalised

    def _pooled(self, videos: Tensor) -> Tensor:
        if not self.drop_tubes:
            return self.encoder.pooled(videos)
        tubes = self.encoder.grid.split(videos)
        seen = changing_tubes(self.encoder, tubes, self.drop_tubes)
        return self.encoder.encode(tubes, seen).mean(1)

    def forward(self, videos: Tensor) -> Tensor:
        """Logits B,C."""
        logits: Tensor = self.head(self.features(videos))
        return logits
