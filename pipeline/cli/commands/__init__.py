"""Commands beside the stages: each module has `SUMMARY`, `add_arguments(parser)`, `run(options)`.

`pipeline.cli.main` lists them. A module is imported to show the command line's help, so what takes
long to import (torch, pandas) is imported within `run`. `run` may return an exit status.
"""
