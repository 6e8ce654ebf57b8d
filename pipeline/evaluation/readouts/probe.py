"""An attentive probe that predicts numbers: trained, chosen and asked as that of recognition is.

Shapes: n clips, V views, E values that are predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.evaluation.readouts.quantities import Quantity, Values
from pipeline.evaluation.recognition.heads import HeadTrainer
from pipeline.evaluation.recognition.task import Labelled, held_out


@dataclass(frozen=True)
class Asked:
    """Ids of clips whose numbers are known: learn from `train`, choose on `val`, score `test`."""

    train: Sequence[str]
    val: Sequence[str]
    test: Sequence[str]


@dataclass(frozen=True)
class Answer:
    """Errors (n,) of the test clips: the probe's, and those of the train clips' mean."""

    errors: Values
    of_mean: Values
    chosen: dict[str, Any]  # hyperparameters, and how they were found


@dataclass(frozen=True)
class Readout:
    """One quantity, and the trainer of its heads; predicted values are standardised over train."""

    quantity: Quantity
    trainer: HeadTrainer

    def ask(self, asked: Asked) -> Answer:
        """Train heads, choose a rate, and measure the errors of the test clips."""
        rates, notes = list(self.trainer.settings.rates), dict[str, Any]()
        heads: list[nn.Module] = []
        if len(rates) > 1:
            learn, judge, by = _selection(asked)
            heads = self._train(learn, rates, "choice")
            tried = [float(self._errors(head, learn, judge).mean()) for head in heads]
            best = int(np.argmin(tried))
            notes = {"chosen_on": by, "tried": [[r, e] for r, e in zip(rates, tried, strict=True)]}
            heads, rates = ([heads[best]] if learn is asked.train else []), [rates[best]]
        head = heads[0] if heads else self._train(asked.train, rates, "final")[0]
        mean = self.quantity.encode(asked.train).mean(0, keepdims=True)
        constant = np.repeat(mean, len(asked.test), axis=0)
        return Answer(
            self._errors(head, asked.train, asked.test),
            self.quantity.errors(constant, asked.test),
            {"rate": rates[0], **notes},
        )

    def _train(self, ids: Sequence[str], rates: Sequence[float], purpose: str) -> list[nn.Module]:
        mean, deviation = self._scale(ids)
        truth = torch.from_numpy((self.quantity.encode(ids) - mean) / deviation).float()
        width = truth.shape[1]
        return self.trainer.fit(ids, truth, width, rates, purpose, functional.mse_loss)

    def _errors(self, head: nn.Module, learned: Sequence[str], ids: Sequence[str]) -> Values:
        mean, deviation = self._scale(learned)
        outputs = np.concatenate(self.trainer.outputs(head, ids)).astype(np.float64)
        return self.quantity.errors(outputs.mean(axis=1) * deviation + mean, ids)

    def _scale(self, ids: Sequence[str]) -> tuple[Values, Values]:
        encoded = self.quantity.encode(ids)
        deviation = encoded.std(axis=0)
        return encoded.mean(axis=0), np.where(deviation > 0, deviation, 1.0)


def _selection(asked: Asked) -> tuple[Sequence[str], Sequence[str], str]:
    """What to learn from and to judge by, to choose a rate: val, or a part of train."""
    if asked.val:
        return asked.train, asked.val, "val"
    ids = np.array(asked.train, np.str_)
    held = held_out(Labelled(ids, np.empty((len(ids), 1, 0), np.float32), np.full(len(ids), "")))
    return ids[~held].tolist(), ids[held].tolist(), "held-out train clips"
