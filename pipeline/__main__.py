"""The command line: one command per stage, plus `compose`."""

from pipeline.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
