"""Formats of encoders' checkpoints: how each is told, its names of tensors, what it was trained on.

A format is told by names of tensors alone, so neither it nor the shape of its encoder needs
PyTorch: settings are composed after it (`configuration.known_weights`).

Positions that are computed here are left out, and so are biases of keys: such a bias shifts all
scores of a query alike and cancels in the softmax.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.method.choices import Positions

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")
Shapes = Mapping[str, tuple[int, ...]]
Channels = tuple[float, float, float]

APART = re.compile(r"(.*attn\.)([qkv])\.(weight|bias)")  # queries, keys and values
TOGETHER = re.compile(r"(.*\.)attn\.qkv\.(weight|bias)")
ONE_BIAS = re.compile(r"(.*attn\.)qkv\.bias")
MASK_TOKEN = re.compile(r"mask_token\.(\d+)")  # of one kind of mask


@dataclass(frozen=True)
class Format:
    """A way in which checkpoints of encoders are written.

    Our names are those of official pretraining: `encoder.blocks.0...`, `decoder.blocks.0...`.
    """

    kind: str  # in words
    marks: tuple[str, ...]  # patterns: each fits the name of a tensor of such a file
    # beginnings of names, and ours: the longest that fits counts, other names stay as they are
    names: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()  # beginnings of names of what is not needed
    added: Mapping[str, str] = field(default_factory=dict)  # to the tensor of our name, always
    positions: tuple[Positions, ...] = ("sinusoid",)  # that such encoders may have, the usual first
    stored: str = ""  # name of the positions of all tubes, where they are stored
    # what is known of the clips that such encoders were trained on: frames, stride, sampling
    seen: Mapping[str, Any] = field(default_factory=dict)
    # of the pixels that they were given; None: ImageNet's, as everywhere here
    normalisation: tuple[Channels, Channels] | None = None
    lacks: tuple[str, ...] = ()  # patterns: none fits the name of a tensor of such a file
    # of a network that Transformers computes (`networks.KINDS`): its names are that library's
    network: str = ""
    without_norm: bool = False  # fine-tuning may have put the last LayerNorm behind the mean

    def is_of(self, names: Iterable[str]) -> bool:
        """Whether a file with tensors of these names is of this format."""
        listed = list(names)
        has = [any(map(re.compile(mark).fullmatch, listed)) for mark in self.marks]
        return all(has) and not any(re.fullmatch(each, n) for each in self.lacks for n in listed)

    def our_name(self, name: str) -> str | None:
        """Return our name of a tensor, before it is split or joined; None: it is left out."""
        if name.startswith(self.left_out) or name in self.added:
            return None
        beginning = max((each for each in self.names if name.startswith(each)), key=len, default="")
        return self.names.get(beginning, "") + name.removeprefix(beginning)

    def our_names(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return values under our names."""
        named = {self.our_name(name): value for name, value in values.items()}
        return {name: value for name, value in named.items() if name is not None}

    def renamed(self, state: Mapping[str, Tensor], *, gradients: bool = False) -> dict[str, Tensor]:
        """Return tensors under our names; of `gradients`, those of a sum are not added."""
        import torch

        if self.network:
            return self._of_the_library(state)
        ours: dict[str, Tensor] = {}
        apart: dict[str, dict[str, Tensor]] = {}
        mask_tokens: dict[int, Tensor] = {}
        for name, tensor in self.our_names(state).items():
            if match := ONE_BIAS.fullmatch(name):
                ours[f"{match[1]}q_bias"], _, ours[f"{match[1]}v_bias"] = tensor.chunk(3)
            elif match := MASK_TOKEN.fullmatch(name):
                mask_tokens[int(match[1])] = tensor
            elif not (match := APART.fullmatch(name)):
                ours[name] = tensor
            elif match[3] == "weight":
                apart.setdefault(match[1], {})[match[2]] = tensor
            elif match[2] != "k":
                ours[f"{match[1]}{match[2]}_bias"] = tensor
        for block, each in apart.items():
            if len(each) == len("qkv"):  # else loading says what is missing
                ours[f"{block}qkv.weight"] = torch.cat([each[part] for part in "qkv"])
        if mask_tokens:
            ours["mask_token"] = torch.cat([mask_tokens[kind] for kind in sorted(mask_tokens)])
        for name, to in self.added.items():
            if not gradients and name in state and to in ours:
                ours[to] = ours[to] + state[name]
        return ours

    def _of_the_library(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return V-JEPA 2's tensors under the names that Transformers has for them."""
        ours: dict[str, Tensor] = {}
        for name, tensor in self.our_names(state).items():
            if (match := TOGETHER.fullmatch(name)) and len(tensor) % 3 == 0:
                for part, each in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    ours[f"{match[1]}attention.{part}.{match[2]}"] = each
            else:
                ours[name.replace(".attn.", ".attention.")] = tensor
        for name, to in self.added.items():
            if name in state and to in ours:
                ours[to] = ours[to] + state[name].flatten()
        norms = sorted((int(n.split(".")[1]), n) for n in ours if n.startswith("norms_block."))
        for number, name in norms:  # those of earlier blocks are for training alone
            tensor = ours.pop(name)
            if number == norms[-1][0]:
                ours[f"{NETWORK}layernorm.{name.rpartition('.')[2]}"] = tensor
        return ours

    def clips(self, shapes: Shapes, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is known of the clips that an encoder was trained on.

        The arguments of its training count, where the file has them; sizes are those for which it
        has positions.

        Args:
            shapes: of the tensors under the file's names.
            arguments: of the training.
        """
        if self.network:
            return dict(self.seen)
        ours, told = self.our_names(shapes), of_arguments(arguments)
        tube = ours.get("encoder.patch_embed.proj.weight", ())[2:]
        if len(tube) != 3:
            return told
        times, places = ours.get("encoder.learned.time"), ours.get("encoder.learned.space")
        if times and places:
            return {"frames": times[1] * tube[0], "size": _side(places[1], tube)} | told
        clips = {**self.seen, **told}
        if (stored := shapes.get(self.stored)) and "frames" in clips:
            places_of_all, rest = divmod(stored[1], clips["frames"] // tube[0] or 1)
            if rest or math.isqrt(places_of_all) ** 2 != places_of_all:
                return told  # it was trained on clips of another length
            clips = {"size": _side(places_of_all, tube), **clips}
        return clips


def recognised(names: Iterable[str]) -> Format | None:
    """Return the format of a file with tensors of these names; None where it is none of these."""
    listed = list(names)
    return next((each for each in FORMATS if each.is_of(listed)), None)


def of_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the arguments of a training of VideoMAE's kind say of its clips."""
    names = {"frames": "num_frames", "size": "input_size", "stride": "sampling_rate"}
    given = {ours: arguments[theirs] for ours, theirs in names.items() if theirs in arguments}
    whole = {name: value for name, value in given.items() if isinstance(value, int) and value > 0}
    # Their fine-tuning samples Something-Something by segments, all else densely.
    if str(arguments.get("data_set", "")).lower() == "ssv2":
        return whole | {"sampling": "per_segment"}
    return whole


def _side(places: int, tube: tuple[int, ...]) -> int:
    """Return the pixels of a square picture of so many tubes."""
    return math.isqrt(places) * tube[1]


ENCODER = {
    "patch_embed.": "encoder.patch_embed.",
    "blocks.": "encoder.blocks.",
    "norm.": "encoder.norm.",
}
SIXTEEN = {"frames": 16, "stride": 4, "sampling": "dense"}


def vjepa(encoder: str = "target_encoder") -> Format:
    """V-JEPA (Bardes et al. 2024), all networks in one mapping.

    `encoder` is the one that is taken: `target_encoder` is the average, which its authors evaluate.
    """
    other = "encoder." if encoder == "target_encoder" else "target_encoder."
    return Format(
        kind="a checkpoint of V-JEPA",
        marks=(r"target_encoder\.blocks\..*", r"target_encoder\.pos_embed"),
        names={
            f"{encoder}.": "encoder.",
            "predictor.predictor_embed.": "encoder_to_decoder.",
            "predictor.predictor_blocks.": "decoder.blocks.",
            "predictor.predictor_norm.": "decoder.norm.",
            "predictor.predictor_proj.": "decoder.head.",
            "predictor.mask_tokens.": "mask_token.",
        },
        left_out=(other, f"{encoder}.pos_embed", "predictor.predictor_pos_embed"),
        positions=("sincos_3d", "sincos_3d_half_time"),
        stored=f"{encoder}.pos_embed",
        seen=SIXTEEN,
    )


VJEPA = vjepa()
VJEPA_ENCODER = Format(  # what `checkpoint_files.read` finds in the published ones
    kind=VJEPA.kind,
    marks=(r"blocks\.0\.attn\.qkv\.bias", r"patch_embed\..*", "pos_embed"),
    names=ENCODER,
    left_out=("pos_embed",),
    positions=VJEPA.positions,
    stored="pos_embed",
    seen=SIXTEEN,
)
NETWORK = "encoder.network."  # before the names of a network of the Transformers library
OF_THE_LIBRARY = {
    "patch_embed.": f"{NETWORK}embeddings.patch_embeddings.",
    "blocks.": f"{NETWORK}layer.",
    "norm.": f"{NETWORK}layernorm.",
}
VJEPA2 = Format(  # Assran et al. 2025: rotary positions, so none is stored
    kind="a checkpoint of V-JEPA 2",
    marks=(r"blocks\.0\.attn\.qkv\.bias", r"patch_embed\.proj\.weight", r"norm\.weight"),
    lacks=("pos_embed", "cls_token", r"(fc_norm|head)\..*"),
    names=OF_THE_LIBRARY,
    network="vjepa2",
    seen={"frames": 64, "size": 256},
)
# What it has for single pictures is passed over; what it adds to each tube of a video is added to
# the bias of their embedding.
VJEPA21 = Format(
    kind="a checkpoint of V-JEPA 2.1",
    marks=(r"blocks\.0\.attn\.qkv\.bias", r"norms_block\.\d+\.weight", "video_mod_embed"),
    names=OF_THE_LIBRARY,
    left_out=("patch_embed_img.", "img_mod_embed"),
    added={"video_mod_embed": f"{NETWORK}embeddings.patch_embeddings.proj.bias"},
    network="vjepa2_1",
    seen={"frames": 64, "size": 384},
)
MVD = Format(  # Wang et al. 2023
    kind="a checkpoint of MVD's pretraining",
    marks=(r"blocks\..*", r"down_img\..*"),
    names={
        **ENCODER,
        # the image teacher's features are the first target
        "down_img.": "encoder_to_decoder.",
        "mask_token_img": "mask_token",
        "decoder_img.": "decoder.",
        "down_vid.": "further.video.encoder_to_decoder.",
        "mask_token_vid": "further.video.mask_token",
        "decoder_vid.": "further.video.decoder.",
    },
    left_out=("pos_embed",),  # three of them
    positions=("sincos_3d_quarter_time",),
    stored="pos_embed",
    seen=SIXTEEN,
)
# Feichtenhofer et al. 2022. The class token and its position are added here to one, as they always
# are before anything else.
MAE_ST = Format(
    kind="a checkpoint of MAE-ST's pretraining",
    marks=(r"blocks\.0\.attn\.q\.weight", "pos_embed_spatial", "pos_embed_class"),
    names={
        **ENCODER,
        "pos_embed_spatial": "encoder.learned.space",
        "pos_embed_temporal": "encoder.learned.time",
        "cls_token": "encoder.learned.class_token",
        "decoder_embed.": "encoder_to_decoder.",
        "decoder_blocks.": "decoder.blocks.",
        "decoder_norm.": "decoder.norm.",
        "decoder_pred.": "decoder.head.",
        "decoder_pos_embed_spatial": "learned.space",
        "decoder_pos_embed_temporal": "learned.time",
        "decoder_cls_token": "learned.class_token",
    },
    added={
        "pos_embed_class": "encoder.learned.class_token",
        "decoder_pos_embed_class": "learned.class_token",
    },
    positions=("learned",),
    seen=SIXTEEN,
    normalisation=((0.45, 0.45, 0.45), (0.225, 0.225, 0.225)),
)
ADAMAE = Format(  # Bandara et al. 2023: the network that draws visible tubes is in the encoder
    kind="a checkpoint of AdaMAE's pretraining",
    marks=(r"encoder\.blocks\..*", r"encoder\.pos_embed_probs"),
    names={
        "encoder.pos_embed_probs": "mask_network.positions",
        "encoder.get_token_probs.0.": "mask_network.block.",
        "encoder.get_token_probs.1.": "mask_network.logit.",
    },
    stored="encoder.pos_embed_probs",
    seen=SIXTEEN,
)
UMT = Format(  # Li et al. 2023
    kind="a checkpoint of UMT's pretraining",
    marks=(r"encoder\.blocks\..*", r"clip_decoder\..*"),
    seen={"frames": 8, "size": 224, "sampling": "per_segment"},
)
TRACKMAE = Format(  # Vandeghen et al. 2026
    kind="a checkpoint of TrackMAE's pretraining",
    marks=(r"encoder\.blocks\.0\.attn\.qkv\.bias",),
)
# SIGMA, VideoMAE and VideoMAE v2, and those that kept their names: SMILE, MGMAE, EVEREST, MME,
# InternVideo. `head.` is SIGMA's projection network.
PRETRAINED = Format(
    kind="a checkpoint of SIGMA's or VideoMAE's pretraining",
    marks=(r"encoder\.blocks\..*",),
    left_out=("head.",),
)
HUGGING_FACE = Format(  # `weights.hugging_face` has its names
    kind="Hugging Face's VideoMAE", marks=(r".*encoder\.layer\..*",), without_norm=True
)
FINE_TUNED = Format(
    kind="an official fine-tuned checkpoint",
    marks=(r"blocks\..*",),
    names={"": "encoder.", **{part: part for part in ("fc_norm.", "head.", "classifier.")}},
    without_norm=True,
)
# The first that fits counts.
FORMATS = (
    *(VJEPA, VJEPA_ENCODER, VJEPA2, VJEPA21, MVD, MAE_ST, ADAMAE, UMT, TRACKMAE),
    *(PRETRAINED, FINE_TUNED, HUGGING_FACE),
)
