"""The command line: one command per stage, and those beside them."""

from pipeline.cli.main import main
from pipeline.planning.ending import Termination


def run() -> int:
    """Run the command that the process was started with; return its exit status."""
    termination = Termination()
    termination.heed()
    try:
        return main(termination=termination)
    finally:
        termination.ignore()


if __name__ == "__main__":
    raise SystemExit(run())
