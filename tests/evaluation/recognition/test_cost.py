"""What an encoder costs: counted, measured, and shown."""

from __future__ import annotations

import pytest
import torch

from pipeline.configuration import build
from pipeline.configuration.schema import Params
from pipeline.evaluation.recognition import cost
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.method.pooling import Pooled


def test_what_an_encoder_costs(params: Params) -> None:
    """Catches operations of another clip or of a batch, and an encoder that is not as it was."""
    model = next(iter(params.runs.values())).model
    encoder = build.encoder(model, params.data.clip)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    options = ExecutionOptions(batch_size=8, device=torch.device("cpu"))
    measured = cost.measure(Pooled(encoder), options)
    n, d, inner = encoder.grid.count, model.width, int(model.width * model.mlp_ratio)
    block = 2 * n * (4 * d * d + 2 * d * inner) + 4 * n * n * d
    expected = model.depth * block + 2 * n * encoder.grid.pixels * d
    assert measured["operations"] == expected
    assert measured["parameters"] == sum(p.numel() for p in encoder.parameters())
    assert 0 < measured["seconds_per_clip"] < 60
    assert measured["clips_at_once"] == 1
    after = encoder.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_the_table() -> None:
    """Catches a unit that is off by a thousand, and a run of before without a cost."""
    measured = {
        "parameters": 86_000_000,
        "operations": 180_000_000_000,
        "seconds_per_clip": 0.25,
        "device": "cpu",
        "clip": [16, 224, 224],
    }
    table = cost.table({"a": {"cost": measured}, "b": {}})
    assert table is not None
    line, before = table.runs
    assert (line.name, line.values) == ("a", pytest.approx((86, 180, 250)))
    assert (before.name, before.values) == ("b", (None, None, None))
    assert "16×224×224" in table.unit
    assert cost.table({"b": {}}) is None
