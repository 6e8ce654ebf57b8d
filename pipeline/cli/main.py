"""`python -m pipeline COMMAND` or `sigma-pipeline COMMAND`: run a stage or a command."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.cli.parser import BUILT_IN, COMMANDS, StageOptions, parser
from pipeline.configuration import plugins
from pipeline.errors import UserError
from pipeline.planning import ending
from pipeline.runtime.files import disk_full
from pipeline.runtime.interruption import EXIT_RESUME_LATER
from pipeline.runtime.joblog import copied_to, own_log


def main(
    arguments: Sequence[str] | None = None, termination: ending.Termination | None = None
) -> int:
    """Run one command; return its exit status (2 for what the user can put right).

    `termination` tells whether an error is what a library has made of the process's end.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        stages = _stages(arguments[0] if arguments else "")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    options = parser(stages).parse_args(arguments)
    with copied_to(own_log(options.log, os.environ)):
        try:
            return options.handler(options) or 0
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except BrokenPipeError:  # such as `trace ... | head`: nobody reads on
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 141  # as a shell reports a program that ends so
        except ending.Terminated:
            return _terminated()
        except KeyboardInterrupt:
            print("interrupted: run the same command again and it goes on", file=sys.stderr)
            return 130
        except Exception as error:  # noqa: BLE001 - the traceback belongs into the log, too
            if termination is not None and termination.stopping:
                return _terminated()
            if full := disk_full(error):
                print(f"error: {full}", file=sys.stderr)
                return full.exit_code
            traceback.print_exc()
            return 1


def _terminated() -> int:
    again = "run the same command again and it goes on"
    print(f"stopped: SIGTERM\n  remedy: {again}", file=sys.stderr)
    return EXIT_RESUME_LATER


def _stages(command: str) -> Mapping[str, StageOptions]:
    """Return the stages that a command line may name: those of plugins, too, where it is of use.

    Raises:
        UserError: where a plugin that params.yaml names cannot be imported.
    """
    if command in BUILT_IN or command in ("compose", "sweep"):
        return BUILT_IN
    has_plugins = plugins.load_from(Path("params.yaml"))
    is_no_stage = command in COMMANDS or command.startswith("-") or not command
    if is_no_stage and not has_plugins:
        return BUILT_IN
    from pipeline.configuration.stages import STAGES

    return STAGES
