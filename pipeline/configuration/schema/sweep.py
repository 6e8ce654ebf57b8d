"""`sweep`: which runs of an experiment are trials, and what varies between them."""

from __future__ import annotations

from pipeline.configuration.section import RunName, Section

Value = bool | int | float | str


class Trial(Section):
    """One run of a sweep."""

    run: RunName  # the run of the experiment whose settings it has but for what varies
    values: dict[str, Value]  # of what varies, by its short name


class Sweep(Section):
    """Runs that are trials: scored on `val` alone, until one of them is chosen."""

    keys: dict[str, str]  # what varies: a short name, and the key
    overrides: tuple[str, ...]  # of the experiment that is varied, as `compose` takes them
    trials: dict[RunName, Trial]  # by the names of their runs

    @property
    def seeds(self) -> frozenset[str]:
        """The short names of keys that are seeds of training: nothing is chosen by them."""
        return frozenset(name for name, key in self.keys.items() if key == "trainer.seed")
