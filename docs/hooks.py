"""What MkDocs adds to the pages of docs/: the commands, from their parser, and the examples; and
what it shows otherwise than a code host: names of pages in links, tables without a head."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.cli.parser import SCRIPT, parser  # noqa: E402

# A link whose text is the name of its file.
LINK = re.compile(r"\[(?:[\w/-]+/)?([\w-]+\.md)\]\(((?:[\w./-]+/)?\1)(#[\w-]*)?\)")
EMPTY_HEAD = re.compile(r"<thead>\s*<tr>\s*(?:<th[^>]*></th>\s*)+</tr>\s*</thead>")
WIDTH = "96"  # characters of a command's help


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of commands, and the files of examples/ that pages link to."""
    files.append(File.generated(config, "commands.md", content="\n".join(_commands())))
    for path in sorted((ROOT / "examples").glob("*.*")):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Have links to examples/, which lies beside docs/, lead to the copies on the site, and call
    pages by their titles."""
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def titled(link: re.Match[str]) -> str:
        target = folder / link[2]
        if not target.is_file():
            return link[0]
        title = target.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        return f"[{title}]({link[2]}{link[3] or ''})"

    return LINK.sub(titled, markdown).replace("](../examples/", "](examples/")


def on_page_content(html: str, **_: object) -> str:
    """Leave out the heads of tables that have none: an empty row."""
    return EMPTY_HEAD.sub("", html)


def _commands() -> Iterator[str]:
    os.environ["COLUMNS"] = WIDTH
    whole = parser(prog=SCRIPT)
    yield "# Commands\n"
    yield f"`{SCRIPT} COMMAND`, or `python -m pipeline COMMAND`: both are the same.\n"
    actions = [each for each in whole._actions if isinstance(each, argparse._SubParsersAction)]
    for action in actions:
        for name, command in action.choices.items():
            yield f"## {name}\n"
            yield f"```text\n{command.format_help()}```\n"
