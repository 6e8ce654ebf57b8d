"""`evaluation_data`: data sets that runs are evaluated on beside the one that they learn from."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from pipeline.configuration.schema.data import Data
from pipeline.configuration.section import Name
from pipeline.evaluation.recognition.settings import Evaluation


class EvaluationData(Data):
    """A further data set that all runs are evaluated on (docs/evaluation.md)."""

    # how it is evaluated; null: as the experiment's own data set, but for the labels to fine-tune
    # on and mirrored clips, which follow this one
    evaluation: Evaluation | None = None
    # what differs from the experiment's settings of further benchmarks: `{retrieval: {k: [1, 5]}}`
    benchmarks: dict[Name, dict[str, Any]] = Field(default_factory=dict)

    @property
    def plain(self) -> Data:
        """The data set as if it were that of the experiment."""
        return Data.model_construct(**{name: getattr(self, name) for name in Data.model_fields})

    def evaluated(self, settings: Evaluation, other: Data) -> Evaluation:
        """Return how it is evaluated, where another data set is evaluated by `settings`.

        What these take from that other one (`${data.finetune_labels}`, `${data.clip.flip}`) is
        taken from this one. Sets of images are no part of a data set, and scored once.
        """
        chosen = self.evaluation or settings
        tuned = chosen.finetune
        if tuned is not None:
            labels, flip = tuned.labels, tuned.augmentation.flip
            labels = self.finetune_labels if labels == other.finetune_labels else labels
            flip = self.clip.flip if flip == other.clip.flip else flip
            augmentation = tuned.augmentation.model_copy(update={"flip": flip})
            update = {"labels": labels, "augmentation": augmentation}
            tuned = tuned.model_copy(update=update)
        return chosen.model_copy(update={"finetune": tuned, "images": ()})
