"""The command line: parse, call, print; one file per command.

Everything heavy is imported inside a command, so that ``--help`` is instant.
"""

from __future__ import annotations

import sys

import typer

from anymri.cli.evaluate import evaluate
from anymri.cli.listing import list_command
from anymri.cli.prepare import prepare
from anymri.cli.segment import segment
from anymri.cli.train import train
from anymri.cli.weights import weights_app
from anymri.errors import AnymriError

app = typer.Typer(
    help="Brain tumour segmentation from whichever MRI sequences a patient has. Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (prepare, train, segment, evaluate):
    app.command()(command)
app.command("list")(list_command)
app.add_typer(weights_app, name="weights")


def main() -> None:
    """Run a command; a user's mistake is one line on standard error and exit code 2."""
    try:
        app()
    except AnymriError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:  # What no check foresaw: a disk that fills up, a folder that vanishes.
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}; nothing more was done", file=sys.stderr)
        raise SystemExit(2) from None
