"""The command line: parse, call, print; one file per command.

Everything heavy is imported inside a command, so that ``--help`` is instant.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any, cast

import typer

from anymri.cli.calibrate import calibrate
from anymri.cli.compare import compare
from anymri.cli.evaluate import evaluate
from anymri.cli.export import export
from anymri.cli.listing import list_command
from anymri.cli.prepare import prepare
from anymri.cli.report import report
from anymri.cli.segment import segment
from anymri.cli.train import train
from anymri.cli.weights import weights_app
from anymri.engine.interruption import heeding, leads
from anymri.errors import AnymriError, InterruptedWork, one_line

app = typer.Typer(
    help="Brain tumour segmentation from whichever MRI sequences a patient has. Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (prepare, train, segment, evaluate, calibrate, compare, report, export):
    app.command()(command)
app.command("list")(list_command)
app.add_typer(weights_app, name="weights")


# Typer exports no name for what its parser raises.
_Unparsable = cast("type[Exception]", typer.BadParameter.__bases__[0])


def main() -> None:
    """Run a command; a user's mistake is one line on standard error and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # A name that the terminal's encoding lacks is shown escaped.
            stream.reconfigure(errors="backslashreplace")
    if not leads():  # Of several processes one prints results; errors may be of any.
        sys.stdout = io.StringIO()
    try:
        with heeding(_advice(sys.argv[1:])):
            code = app(prog_name="anymri", standalone_mode=False)
    except InterruptedWork as interrupted:
        print(f"stopped by {one_line(interrupted)}", file=sys.stderr)
        raise SystemExit(128 + interrupted.signal) from None
    except AnymriError as error:
        raise _refused(str(error)) from None
    except _Unparsable as error:
        raise _misused(error) from None
    except OSError as error:  # What no check foresaw: a disk that fills up, a folder that vanishes.
        raise _refused(f"{error.filename or 'a file'}: {error.strerror or error}; nothing more was done") from None
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):  # torch's word for it
            raise
        raise _refused("the memory does not suffice; close other programs, or use a machine with more") from None
    if code:
        raise SystemExit(code)


def _advice(words: Sequence[str]) -> str:
    """Return how to go on after an interruption of this command."""
    again = [*words, "--resume"] if words[:1] in (["train"], ["compare"]) and "--resume" not in words else words
    program = "anymri" if "RANK" not in os.environ else "torchrun … -m anymri"
    return f"go on with: {program} {shlex.join(again)}"


def _refused(message: str) -> SystemExit:
    print(f"error: {one_line(message)}", file=sys.stderr)
    return SystemExit(2)


def _misused(error: Any) -> SystemExit:
    text, context = error.format_message(), error.ctx
    if not text or "\n" in text:  # No word at all was given: this is the help, if it is not printed already.
        print(text, end="", file=sys.stderr)
        return SystemExit(2)
    return _refused(f"{text.rstrip('.')}; see '{context.command_path if context else 'anymri'} --help'")
