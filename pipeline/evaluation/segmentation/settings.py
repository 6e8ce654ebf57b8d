"""`segmentation`: which data sets with masks are segmented, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.configuration.section import Name, Section
from pipeline.evaluation.benchmark import BenchmarkSettings


class EmbeddedMasks(Section):
    """The test split of `data.synthetic`, with the masks that it is drawn from."""

    name: Name  # shown in the report
    kind: Literal["embedded"]
    clips: int | None = Field(default=None, gt=0)  # the first ones by id; null: all


class MaskFolder(Section):
    """A data set as it is shipped: JPEGImages, Annotations and a list of videos."""

    name: Name  # shown in the report
    kind: Literal["davis2017", "youtube_vos"]
    root: str  # the folder that holds JPEGImages (DAVIS), or train and valid (YouTube-VOS)
    split: str  # DAVIS: ImageSets/2017/SPLIT.txt; YouTube-VOS: the folder SPLIT
    resolution: str = "480p"  # of DAVIS: the folder below JPEGImages and Annotations


def _once(lengths: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(lengths))


Lengths = Annotated[tuple[Annotated[int, Field(gt=0)], ...], AfterValidator(_once)]
MaskedData = Annotated[EmbeddedMasks | MaskFolder, Field(discriminator="kind")]


def _names_differ(data: tuple[MaskedData, ...]) -> tuple[MaskedData, ...]:
    names = [each.name for each in data]
    if len(set(names)) < len(names):
        raise ValueError(f"two data sets of one name: {', '.join(names)}")
    return data


MaskedDataSets = Annotated[tuple[MaskedData, ...], AfterValidator(_names_differ)]


class Segmentation(BenchmarkSettings):
    """Unsupervised video object segmentation: k-means on the tokens of one clip at a time."""

    name: Name  # shown in the report
    data: MaskedDataSets  # data sets with masks; may be empty
    frames: Lengths = Field(min_length=1)  # clip lengths, multiples of the tube's; a table each
    # pixels of a side at which is clustered and compared; null: `data.clip.size`
    resolution: int | None = Field(gt=0)
    components: int = Field(gt=0)  # principal components of a clip's tokens that are kept
    clusters: int = Field(gt=1)  # of over-clustering
    restarts: int = Field(gt=0)  # of k-means, the best of which counts
    iterations: int = Field(gt=0)  # of k-means, at most
    seed: int = Field(ge=0)  # of k-means, for every clip the same
    processes: int = Field(gt=0)  # that cluster at once; changes no score
    pictures: int = Field(ge=0)  # clips of each data set that are drawn, spread over its list
