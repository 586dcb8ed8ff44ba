"""``interp show`` and ``interp report``: a finished run, from its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options


def folder_of(run: Path) -> Path:
    """`run` itself, or the run of that name where runs go."""
    from interp.runs.places import runs_dir

    inside = runs_dir() / run
    return inside if not run.exists() and inside.is_dir() else run


def show(run: options.RunPath, json: options.Json = False, debug: options.Debug = False) -> None:
    """Show a finished run: verdict, table, causal check, where it comes from."""
    from interp.cli.output import print_json, print_result
    from interp.runs.result import finished_record, open_run
    from interp.runs.store import RunFolder, plain

    folder = folder_of(run)
    result = open_run(folder)
    if json:
        record = finished_record(RunFolder(folder))
        kept = {name: record["findings"][name] for name in ("verdict", "verification", "caveats", "summary", "columns")}
        print_json({**kept, "provenance": record["provenance"], "findings": plain(result.findings.records())})
    else:
        print_result(result, rows=None)


def report(
    run: options.RunPath,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the page; default: report.html in the run folder.")
    ] = None,
    debug: options.Debug = False,
) -> None:
    """Build the page of a finished run again and print its path."""
    from interp.runs.result import open_run
    from interp.text import printable

    typer.echo(printable(str(open_run(folder_of(run)).report(out))))
