"""Packages that only some settings need: the optional dependencies of pyproject.toml."""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """Return the command that adds an extra's packages, for a checkout and for an installation."""
    return f"make setup EXTRAS={extra} (without make: pip install 'sigma-pipeline[{extra}]')"
