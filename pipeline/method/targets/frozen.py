"""A frozen network's features as targets (paper, section 3.2, "DINO").

Shapes: B clips, F frames, N tubes of a clip, n of a frame, M predicted ones, P pixel values of a
tube, O values of a target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.method.capabilities import has_streams, streams
from pipeline.method.targets import EncoderTarget, Normalisation
from pipeline.method.targets.feature_networks import Attended
from pipeline.method.targets.network import HoldingTarget
from pipeline.method.targets.projection import STABILISER
from pipeline.method.tubes import TubeGrid, gather


def normalised_features(features: Tensor) -> Tensor:
    """Normalise features B,N,O per clip over its N tubes: zero mean, unit (unbiased) variance."""
    features = features.float()
    variance, mean = torch.var_mean(features, dim=1, keepdim=True)
    return (features - mean) / (variance.sqrt() + STABILISER)


class FrozenFeatures(HoldingTarget):
    """Features of a frozen network as targets.

    `digest` is the `tensors_digest` of its weights. Without a network (`use` not called) the model
    has its shape and can be used but not trained.
    """

    frozen = True

    def __init__(
        self, width: int, grid: TubeGrid, *, layers: int = 1, normalise: Normalisation = "clip"
    ) -> None:
        super().__init__()
        self.width, self.layers = width, layers
        self.normalise: Normalisation = normalise
        self.grid = grid
        self.own_stream = False  # on an accelerator, see `begin`
        self._stream: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy has: all but the stream, which cannot be copied."""
        return {**self.__dict__, "_stream": None}

    def use(self, network: Callable[[Tensor], Tensor]) -> Self:
        """Take `network`: frames F,3,H,W to features F,n,O, with n tubes in a frame."""
        if isinstance(network, nn.Module):
            network.eval().requires_grad_(False)
        self._held = [network]
        return self

    def begin(self, tubes: Tensor, masked: Tensor) -> Callable[[], Tensor]:
        """Begin with the targets of `forward`; what is returned waits for them and gives them.

        With `own_stream` an accelerator works on them beside what is asked of it meanwhile. Else
        they are worked out when they are waited for.
        """
        if not self.own_stream or not has_streams(tubes.device):
            return super().begin(tubes, masked)
        queues = streams(tubes.device)
        main = queues.current_stream(tubes.device)
        if self._stream is None:
            self._stream = queues.Stream(tubes.device)
        beside = self._stream
        # Each waits for the other in turn, so memory that one frees is not used too early.
        beside.wait_stream(main)
        with queues.stream(beside):
            targets = cast(Tensor, self(tubes, masked))

        def wait() -> Tensor:
            main.wait_stream(beside)
            return targets

        return wait

    @torch.no_grad()
    def forward(self, tubes: Tensor, masked: Tensor) -> Tensor:
        """Targets B,M,O: features of all tubes, normalised, then the masked ones."""
        if not self._held and tubes.is_meta:
            return tubes.new_empty(*masked.shape, self.width)
        return gather(self._normalised(self._network(self._seen(tubes)), tubes), masked)

    @torch.no_grad()
    def attended(self, tubes: Tensor) -> Attended:
        """Normalised features of all tubes, and which of them the network attends to, float32."""
        if not self._held and tubes.is_meta:
            shape = tubes.shape[:2]
            return Attended(tubes.new_empty(*shape, self.width), tubes.new_empty(shape))
        features, attention = self._network.attended(self._seen(tubes))
        shares = attention.float().reshape(tubes.shape[:2])
        return Attended(self._normalised(features, tubes), shares)

    @property
    def _network(self) -> Any:
        if not self._held:
            raise RuntimeError("this model was built without the frozen network of its targets")
        return self._held[0]

    def _seen(self, tubes: Tensor) -> Tensor:
        """What the network is given."""
        return self.grid.first_frames(tubes)

    def _normalised(self, features: Tensor, tubes: Tensor) -> Tensor:
        features = features.reshape(*tubes.shape[:2], self.width)
        if self.normalise == "clip":
            return normalised_features(features)
        features = features.float()
        if self.normalise == "none":
            return features
        each = features.reshape(*tubes.shape[:2], self.layers, -1)
        return functional.normalize(each, dim=-1).flatten(-2)


class VideoFeatures(FrozenFeatures):
    """Features of a frozen video encoder as targets: it is given whole clips.

    `use` takes `ClipFeatures`, or any map from tubes B,N,P to features B,N,O.
    """

    def __init__(self, settings: EncoderTarget, grid: TubeGrid) -> None:
        layers = len(settings.layers)
        super().__init__(layers * settings.width, grid, layers=layers, normalise=settings.normalise)

    def _seen(self, tubes: Tensor) -> Tensor:
        return tubes
