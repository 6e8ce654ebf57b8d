"""Uploading an export to a hub, by huggingface_hub's own client (HF_ENDPOINT and HF_TOKEN hold)."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import UserError, how_to_install

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def check_name(name: str) -> None:
    """Raise UserError for what is no OWNER/NAME."""
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r} is not OWNER/NAME", place="--push")


def push(folder: Path, name: str, *, public: bool) -> str:
    """Upload a folder as one commit; return its address. A new repository is private.

    Raises:
        UserError: where the hub cannot be reached or refuses.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise UserError(
            "huggingface-hub is not installed", remedy=how_to_install("export")
        ) from None
    api = HfApi()
    try:
        api.create_repo(name, private=not public, exist_ok=True)
        done = api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Export of the SIGMA pipeline"
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise UserError(
            f"the hub refuses it: {lines[0] if lines else type(error).__name__}",
            place=f"{api.endpoint}/{name}",
            remedy="log in with `hf auth login` or HF_TOKEN; the export itself is written",
        ) from None
    except Exception as error:
        if "httpx" not in type(error).__module__:
            raise
        raise UserError(
            f"the hub cannot be reached: {error}",
            place=api.endpoint,
            remedy="try again; the export itself is written",
        ) from None
    return str(done.commit_url)
