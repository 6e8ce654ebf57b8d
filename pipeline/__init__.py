"""From a list of videos to an evaluated SIGMA video model."""

__version__ = "0.1.0"
