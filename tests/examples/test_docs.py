"""Links in the documentation lead somewhere, commands exist, quoted messages are the program's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli.parser import parser
from pipeline.configuration import composition

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"python -m pipeline ([a-z][a-z_-]*)")
MODULE = re.compile(r"python -m ((?:benchmarks|examples)\.[a-z_]+)")
SCRIPT = re.compile(r"python (workflow/[a-z_]+\.py)")
CHOICE = re.compile(
    r"(?<![\w.@])(data|model|objective|trainer|evaluation|segmentation|severe|experiment)=([a-z]\w*)"
)
EXAMPLES_ONLY = {"gestures", "sigma_hog", "pixel_cosine", "small"}  # which docs/extending.md makes


def pages(project: Path) -> list[Path]:
    found = [
        *project.glob("*.md"),
        *project.glob("docs/**/*.md"),
        *project.glob("conf/*.md"),
        *project.glob("examples/*.ipynb"),
    ]
    assert len(found) > 20
    return found


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.strip().replace(" ", "-") for title in kept}


def test_every_link_leads_somewhere(project: Path) -> None:
    """Would catch a page or a heading that was renamed, and one that is not written yet."""
    broken = []
    for page in pages(project):
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            if link.startswith(("http://", "https://", "mailto:")):
                continue
            name, _, anchor = link.replace("\\n", "").partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists():
                broken.append(f"{page.name}: {link}")
            elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
                broken.append(f"{page.name}: no heading {link}")
    assert broken == []


def test_every_page_is_listed(project: Path) -> None:
    """Would catch a page that nobody finds."""
    docs = project / "docs"
    listed = LINK.findall((docs / "README.md").read_text(encoding="utf-8"))
    there = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} - {"README.md"}
    assert there - set(listed) == set()


def test_commands_and_choices_exist(project: Path) -> None:
    """Would catch a command, a script or a group's choice that was renamed."""
    actions = [a for a in parser()._actions if a.choices]
    commands = set(actions[0].choices or ())
    choices = {(group, name) for group, names in composition.choices().items() for name in names}
    missing = set()
    for page in pages(project):
        text = page.read_text(encoding="utf-8")
        missing |= {
            f"{page.name}: {name}" for name in COMMAND.findall(text) if name not in commands
        }
        for module in MODULE.findall(text):
            path = project / module.replace(".", "/")
            if not path.with_suffix(".py").is_file() and not (path / "__main__.py").is_file():
                missing.add(f"{page.name}: {module}")
        missing |= {
            f"{page.name}: {s}" for s in SCRIPT.findall(text) if not (project / s).is_file()
        }
        for group, name in CHOICE.findall(text):
            if (group, name) not in choices and name not in EXAMPLES_ONLY:
                missing.add(f"{page.name}: {group}={name}")
    assert missing == set()


def literals(project: Path) -> Iterator[str]:
    """Yield every text in the code, with `...` for what is filled in."""
    for path in project.glob("pipeline/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "..." for p in node.values)
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def messages(project: Path) -> list[str]:
    """Return the messages that the page quotes: first columns that are sentences in backticks."""
    text = (project / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    quoted = (each for cell in cells for each in re.findall(r"`([^`]+)`", cell))
    return [each for each in quoted if each.count(" ") >= 2]


def test_quoted_messages_are_those_of_the_code(project: Path) -> None:
    """Would catch a message that was reworded: nobody would find it on the page any more."""
    texts = list(literals(project))
    quoted = messages(project)
    assert len(quoted) >= 15
    for message in quoted:
        parts = [part.strip() for part in message.split("...")]
        pattern = re.compile(".*".join(map(re.escape, filter(None, parts))), re.DOTALL)
        assert any(pattern.search(text) for text in texts), message


@pytest.mark.parametrize("name", ["README.md", "docs/README.md"])
def test_the_first_pages_are_short(project: Path, name: str) -> None:
    """Would catch a front page that nobody reads to its end."""
    assert (project / name).read_text(encoding="utf-8").count("\n") < 200
