"""The one error that a user sees without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can put right.

    The message names the thing, the place and the remedy, and fits on one screen;
    the command line prints it without a traceback and exits with `exit_code`.
    """

    exit_code = 2

    def __init__(self, problem: str, *, place: str = "", remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.place = place
        self.remedy = remedy

    def __str__(self) -> str:
        lines = [self.problem]
        if self.place:
            lines.append(f"  where:  {self.place}")
        if self.remedy:
            lines.append(f"  remedy: {self.remedy}")
        return "\n".join(lines)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type's name where it says nothing."""
    text = error.problem if isinstance(error, UserError) else str(error)
    return next(iter(text.strip().splitlines()), type(error).__name__)


def how_to_install(extra: str) -> str:
    """Return the command that adds the packages of an optional dependency of pyproject.toml."""
    return f"make setup EXTRAS={extra} (without make: pip install 'sigma-pipeline[{extra}]')"
