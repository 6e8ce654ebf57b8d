"""TimeTuning: the assignment of a first frame carried to the last, and the loss against it."""

from __future__ import annotations

import torch
from torch.nn import functional

from pipeline.method import propagation
from pipeline.method.sigma import cosines

from .golden import FEATURES, Case, check_gradients, check_loss, checks


@checks("timetuning_step")
def timetuning_step(case: Case) -> None:
    """Assignment, propagation, labels, loss, gradients, and the averaged prototypes."""
    config, inputs, outputs = case.config, case.tensors("inputs"), case.tensors("outputs")
    features = inputs["features"].requires_grad_()
    prototypes = inputs["prototypes"].requires_grad_()
    whose = "teacher_" if config["teacher"] else ""
    first = propagation.assign_first(
        inputs[f"{whose}features"][:, 0],
        inputs[f"{whose}prototypes"],
        epsilon=config["epsilon"],
        iterations=config["sinkhorn_iterations"],
    )
    torch.testing.assert_close(first, outputs["first_assignment"], rtol=1e-4, atol=FEATURES)

    settings = propagation.Propagation(
        config["neighbourhood"],
        config["memory_frames"],
        config["topk"],
        config["affinity_temperature"],
    )
    side = config["grid"]
    carried = torch.stack(
        [
            propagation.propagate(clip, labels, (side, side), settings)
            for clip, labels in zip(inputs["backbone_features"], first, strict=True)
        ]
    )
    recorded = outputs["propagated"].flatten(3).transpose(2, 3)
    torch.testing.assert_close(carried, recorded, rtol=1e-4, atol=FEATURES)
    labels = carried[:, -1].argmax(-1)
    assert torch.equal(labels, outputs["labels"])

    scores = cosines(features[:, -1], prototypes)
    torch.testing.assert_close(scores, outputs["target_scores"], rtol=1e-4, atol=FEATURES)
    check_loss(case, propagation.propagated_loss(scores, labels, config["temperature"]))
    check_gradients(case, {"features": features.grad, "prototypes": prototypes.grad})
    if config["teacher"]:
        student = functional.normalize(inputs["prototypes"].detach(), dim=-1)
        share = config["teacher_share_of_student"]
        ours = propagation.follow_prototypes(inputs["teacher_prototypes"], student, share)
        torch.testing.assert_close(ours, outputs["teacher_prototypes_after"], rtol=0, atol=FEATURES)
