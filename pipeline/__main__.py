"""The command line: one command per stage, plus `compose`."""

from pipeline.cli.main import main
from pipeline.planning.ending import Termination

if __name__ == "__main__":
    Termination().heed()
    raise SystemExit(main())
