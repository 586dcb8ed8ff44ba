"""The command line: parse and dispatch. Imports neither torch nor transformers nor pandas; each command does when run.

Data goes to stdout, progress and messages to stderr. Exit codes: 0 done, 1 failed, 2 usage, 3 finished but verification
or self-check failed, 130 interrupted and resumable.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
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


COMMANDS: dict[str, Callable[..., None]] = {
    "scan": scan,
    "ablate": ablate,
    "repair": repair,
    "reproduce": reproduce,
    "capture": capture,
    "ls": ls,
    "show": show,
    "report": report,
    "compare": compare,
    "sweep": sweep,
    "get": get,
}
"""In the order of ``interp --help``."""


def app(arguments: Sequence[str]) -> typer.Typer:
    """The application that these arguments are for. The options of all commands together take longer to build than most
    of what else happens before one runs, so commands other than the one that is called have a name and a docstring."""
    made = typer.Typer(
        name="interp",
        cls=Commands,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Mechanistic interpretability of open language models: find, verify by intervening, report.",
    )
    made.callback()(_root)
    called = next((argument for argument in arguments if not argument.startswith("-")), None)
    completing = any(name.endswith("_COMPLETE") for name in os.environ)  # the shell asks for any command's options
    for name, command in COMMANDS.items():
        made.command(name)(command if completing or name == called else _named(command))
    return made


def _named(command: Callable[..., None]) -> Callable[[], None]:
    """What stands for a command that is not called."""

    def stand_in() -> None:
        raise AssertionError("a command was called that was not the first argument")

    stand_in.__doc__ = command.__doc__
    return stand_in


def _version(wanted: bool) -> None:
    if wanted:
        import interp

        typer.echo(f"interp {interp.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (default: this process's own) and return the exit code."""
    options.state.debug = False
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        app(given)(args=given, prog_name="interp")
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
