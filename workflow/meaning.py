"""Write workflow/code.yaml, what the code of each stage means and each run needs: DVC's `code`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.configuration import composition, stages

if __name__ == "__main__":
    stages.write_code_yaml(composition.load())  # which imports the plugins, too
