"""All but one thing is in pyproject.toml: a project's files are put into the package."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PROJECT = runpy.run_path("pipeline/cli/project/files.py")


class BuildWithProjectFiles(build_py):
    """Copies what `sigma-pipeline init` writes to where it looks for it."""

    def _project_files(self):
        return list(PROJECT["names"](Path()))

    def run(self):
        super().run()
        if not self.editable_mode:
            for name in self._project_files():
                target = Path(self.build_lib) / PROJECT["COPIES"] / name
                target.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(name, str(target))

    def get_source_files(self):
        return [*super().get_source_files(), *self._project_files()]  # of a source archive


setup(cmdclass={"build_py": BuildWithProjectFiles})
