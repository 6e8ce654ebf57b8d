"""CSV for people: a spreadsheet shows each cell as text, and computes none of them."""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet computes


def cell(text: str) -> str:
    """Return the text with an apostrophe before it where a spreadsheet would take it for a formula.

    For files that people read; what this project reads again is written as it is.
    """
    shown = text.replace("\r", " ")  # the writer does not quote it, and readers end the row there
    return f"'{shown}" if text.startswith(FORMULA) else shown
