"""From a list of videos to an evaluated SIGMA video model."""

import os

__version__ = "0.1.0"

# Threads that wait for each other shall sleep, not spin: PyTorch looks here when it is loaded. On
# a machine that is busy with something else, too, a step is several times as fast so
# (docs/notes/speed.md).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
