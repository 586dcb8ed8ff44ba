"""``interp compare``: several finished runs of one finder, or a sweep, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options

PAGE = "compare.html"


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN RUN ...",
            help="Run folders, or names of runs in $INTERP_RUNS (else ./runs); or the folder of a sweep.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"Where to write the page; default: {PAGE} in $INTERP_RUNS (else ./runs), of a sweep its report.html."
        ),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Put finished runs side by side, of one finder or of a sweep: a table, their charts over one another, one page."""
    from interp.cli.output import print_json, print_rows, say
    from interp.cli.show import folder_of
    from interp.comparison.compare import compare as compare_runs
    from interp.runs.places import runs_dir
    from interp.runs.store import REPORT_FILE, plain
    from interp.sweeps.folder import is_sweep

    folders = [folder_of(run) for run in runs]
    compared = compare_runs(folders)
    findings = compared.findings
    if out is None and len(folders) == 1 and is_sweep(folders[0]):
        out = folders[0] / REPORT_FILE
    elif out is None:
        runs_dir().mkdir(parents=True, exist_ok=True)  # the runs may lie elsewhere
        out = runs_dir() / PAGE
    page = compared.report(out)
    if json:
        told = {sheet.name: [dict(zip((c.name for c in sheet.columns), row, strict=True)) for row in sheet.rows]
                for sheet in findings.sheets}  # fmt: skip
        print_json(
            plain({"verdict": findings.verdict, "runs": findings.records(), "caveats": findings.caveats, "sheets": told,
                   "report": str(page)})
        )  # fmt: skip
        return
    say(findings.verdict)
    say()
    print_rows(
        [
            {name: value for name, value in row.items() if name not in ("verdict", "folder")}
            for row in findings.records()
        ]
    )
    say()
    for row in findings.records():
        if "verdict" in row:  # several finders have one each, which stands in their sheets
            say(f"{row['run']}: {row['verdict']}")
    for caveat in findings.caveats:
        say(f"caveat: {caveat}")
    say(f"report: {page}")
