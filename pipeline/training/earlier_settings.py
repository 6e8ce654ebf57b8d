"""What checkpoints of before say that they were made with, in the settings of today."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipeline.configuration import old_names
from pipeline.configuration.schema import Model, Optimiser, Section
from pipeline.configuration.schema.registered import OneOf
from pipeline.data.shards.index import Pictures
from pipeline.method.losses import LOSSES
from pipeline.method.masks import MASKS
from pipeline.method.targets import TARGETS
from pipeline.runtime.checkpoint_sets import SetInfo


def in_todays_terms(info: SetInfo, pictures: Pictures) -> SetInfo:
    """Say in today's terms what a checkpoint of before was made with.

    Settings of the objective get their names of today, and new settings their defaults. One from
    before pictures and files were noted has one hash of all files' bytes and one of all shards'
    bytes, which nothing of today equals: so it counts as made of these pictures by other code, and
    `on_code_change` decides.
    """
    settings = dict(info.settings)
    if "model" in settings:
        model = _with_defaults(Model, settings["model"])
        settings["model"] = Model.without_unused(model)  # as it is written
    if "trainer" in settings:
        trainer = settings["trainer"]
        optimiser = _with_defaults(Optimiser, trainer["optimiser"])
        settings["trainer"] = {**trainer, "optimiser": optimiser}
    if "objective" in settings:
        settings["objective"] = old_names.objective(settings["objective"])
        for part, registry in (("target", TARGETS), ("loss", LOSSES), ("mask", MASKS)):
            values = settings["objective"].get(part)
            if isinstance(values, dict) and values.get("kind") in registry:
                settings["objective"][part] = OneOf(registry).with_defaults(values)
    data = settings.get("data", {})
    if "shards" in data:
        settings.pop("code", None)
        settings["data"] = {"clip": data["clip"], "pictures": pictures.sha256}
    return replace(info, settings=settings)


def _with_defaults(section: type[Section], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section of before with the keys that it has got since, at their defaults."""
    fields = section.model_fields.items()
    return {name: f.default for name, f in fields if not f.is_required()} | dict(values)
