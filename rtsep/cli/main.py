"""The command `rtsep`: its sub-commands, and how errors become one line and an exit code.

Imports nothing heavy: `rtsep --help` must come at once. numpy, Numba and the sound libraries are imported inside the
commands.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError
from cyclopts.exceptions import UnknownCommandError, UnusedCliTokensError

from rtsep import __version__
from rtsep.cli import (
    bench,
    compare,
    completion,
    config,
    devices,
    doctor,
    evaluate,
    export,
    models,
    run,
    separate,
    train,
)
from rtsep.errors import RtsepError, UsageError, as_error, nearest, one_line

app = App(
    name="rtsep",
    usage="Usage: rtsep [COMMAND] [OPTIONS]",
    version=__version__,
    help_format="plaintext",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.default(run.run)
app.command(run.run, name="run")
app.command(separate.separate)
app.command(devices.devices)
app.command(evaluate.evaluate)
app.command(compare.compare)
app.command(models.models)
app.command(config.app)
app.command(doctor.doctor)
app.command(bench.bench)
app.command(train.train)
app.command(export.export)
app.command(completion.completion)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see `rtsep.errors`).

    Parameters
    ----------
    arguments : sequence of str, optional
        What stands behind ``rtsep``; ``sys.argv`` if not given.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file need not be text
    try:
        if tokens in (["--help"], ["-h"]):  # not first read by the signature of `run`: a tenth of the time
            app.help_print([])
            result = 0
        else:
            result = app(tokens, exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except CycloptsError as error:
        return _fail(_plain(error), error)
    except RtsepError as error:
        return _fail(error, error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `rtsep models | head`
        _drop_output()
        return 0
    except OSError as error:
        _drop_output()
        return _fail(as_error(error), error)
    except Exception as error:
        return _fail(RtsepError(f"unexpected {one_line(error)} (a bug; RTSEP_DEBUG=1 shows where)"), error)


def _drop_output() -> None:
    """Give up text that cannot be written, or Python complains about it at its exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(error: RtsepError, cause: Exception) -> int:
    if os.environ.get("RTSEP_DEBUG") == "1":
        import traceback

        traceback.print_exception(cause)
    print(f"rtsep: {error}", file=sys.stderr)
    return error.exit_code


def _plain(error: CycloptsError) -> UsageError:
    """One line for a wrong command line."""
    unused = list(getattr(error, "unused_tokens", None) or [])
    if isinstance(error, UnusedCliTokensError | UnknownCommandError) and unused:
        word = unused[0]
        if os.path.exists(word):
            hint = f"did you mean `rtsep --input {word}` or `rtsep separate {word} -o DIR`?"
            return UsageError(f"'{word}' is not a command: {hint}")
        commands = [name for name in app if not name.startswith("-")]
        return UsageError(f"'{word}' is not a command: {nearest(word, commands)}")
    return UsageError(" ".join(str(error).split()) + " (see rtsep --help)")
