"""The command line: parse and dispatch. Imports neither torch nor transformers nor pandas; each command does when run.

Data goes to stdout, progress and messages to stderr. Exit codes: 0 done, 1 failed, 2 usage, 3 finished but verification
or self-check failed, 130 interrupted and resumable.
"""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from interp.cli import options
from interp.cli.ablate import ablate
from interp.cli.capture import capture
from interp.cli.compare import compare
from interp.cli.get import get
from interp.cli.ls import ls
from interp.cli.repair import repair
from interp.cli.reproduce import reproduce
from interp.cli.scan import scan
from interp.cli.show import report, show
from interp.cli.sweep import sweep
from interp.errors import InterpError
from interp.text import printable

FAILED = 1
INTERRUPTED = 130


class Commands(TyperGroup):
    """Ctrl-C ends any command with 130, also while it still imports (older versions of typer end with 1)."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="interp",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Mechanistic interpretability of open language models: find, verify by intervening, report.",
)
app.command("scan")(scan)
app.command("ablate")(ablate)
app.command("repair")(repair)
app.command("reproduce")(reproduce)
app.command("capture")(capture)
app.command("ls")(ls)
app.command("show")(show)
app.command("report")(report)
app.command("compare")(compare)
app.command("sweep")(sweep)
app.command("get")(get)


def _version(wanted: bool) -> None:
    if wanted:
        import interp

        typer.echo(f"interp {interp.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (default: this process's own) and return the exit code."""
    options.state.debug = False
    try:
        app(args=None if arguments is None else list(arguments), prog_name="interp")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else FAILED
    except InterpError as error:
        return _fail(error, str(error), error.exit_code)
    except Exception as error:
        told = " ".join(str(error).split())[:400]
        return _fail(error, f"unexpected {type(error).__name__}: {told}\n--debug shows the traceback", FAILED)
    return 0


def _fail(error: Exception, message: str, code: int) -> int:
    if options.state.debug:
        traceback.print_exception(error)
    else:
        print("error: " + "\n".join(printable(line) for line in message.splitlines()), file=sys.stderr)
    return code


def main() -> NoReturn:
    """Entry point of the ``interp`` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a token still shows the rest
    sys.exit(run())
