"""The command line: one command per stage, plus `compose`."""

from pipeline.cli.main import main
from pipeline.planning.ending import Termination

if __name__ == "__main__":
    termination = Termination()
    termination.heed()
    try:
        status = main()
    finally:
        termination.ignore()
    raise SystemExit(status)
