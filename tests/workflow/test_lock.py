"""The locked packages."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def test_the_lock_holds_exact_versions_with_hashes_and_no_host(project: Path) -> None:
    """Catches a dependency that was added without `make lock`, and a lock of one machine."""
    text = (project / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|--(extra-)?index-url|--find-links|@ ", text)
    locked: dict[str, list[str]] = defaultdict(list)  # several where Pythons differ
    for block in re.split(r"(?m)^(?=[A-Za-z0-9])", text)[1:]:
        requirement = Requirement(block.split("\\")[0].strip())
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), requirement.name
        locked[canonicalize_name(requirement.name)].append(pin.version)

    package = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = package["optional-dependencies"]
    for line in [*package["dependencies"], *(each for extra in extras.values() for each in extra)]:
        wanted = Requirement(line)
        versions = locked[canonicalize_name(wanted.name)]
        assert versions, f"{wanted.name} is not locked: make lock"
        assert all(wanted.specifier.contains(version) for version in versions), line
