"""What a kind of mask, target or loss is called in the configuration, and which class it is.

A class is a frozen dataclass: its fields are the settings, its methods the code. Settings are read
wherever the configuration is checked, also where nothing is trained: a class of this project
imports torch only in its methods. One of a file of somebody's own may do as it likes.
"""

from __future__ import annotations

from typing import Any

Registry = dict[str, type[Any]]  # kind -> class
