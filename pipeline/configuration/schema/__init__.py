"""What `params.yaml` may hold: every key, its type, its bounds. Unknown keys are errors.

One definition serves the compose command, the Snakefile and every stage, so that a mistake is
refused at the boundary and nowhere else. The values themselves live in `pipeline/conf`.
"""
# ruff: noqa: F401 - what others import from here

from pipeline.configuration.schema.data import (
    Clip,
    ClipAugmentation,
    ClipRandAugment,
    ColourJitter,
    Data,
    Decode,
    Download,
    ResizedCrop,
    Shards,
    Synthetic,
    YouTube,
)
from pipeline.configuration.schema.further import EvaluationData
from pipeline.configuration.schema.method import Model, Objective, Paste
from pipeline.configuration.schema.params import Params
from pipeline.configuration.schema.run import OwnClip, Run
from pipeline.configuration.schema.sweep import Sweep, Trial
from pipeline.configuration.schema.training import (
    Mixture,
    Optimiser,
    Profile,
    Tracking,
    Trainer,
)
from pipeline.configuration.section import Section
from pipeline.evaluation.recognition.settings import (
    AttentiveProbe,
    Evaluation,
    ImageSet,
    LinearProbe,
    NearestNeighbours,
    TrainedLinearProbe,
    Training,
)
from pipeline.evaluation.segmentation.settings import (
    EmbeddedMasks,
    MaskedData,
    MaskFolder,
    Segmentation,
)
from pipeline.evaluation.settings import Augmentation, Finetune, RandAugment, Views
from pipeline.evaluation.severe.settings import (
    DrawnClips,
    DrawnSize,
    FinetunedEncoder,
    FrozenHeads,
    Severe,
    SevereTask,
    StoredClips,
)
