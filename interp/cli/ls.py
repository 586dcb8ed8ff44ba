"""``interp ls``: what there is to scan, to scan with, and what was scanned."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import options


class What(str, enum.Enum):
    """What can be listed."""

    models = "models"
    runs = "runs"
    probes = "probes"
    finders = "finders"
    papers = "papers"


def ls(
    what: Annotated[What, typer.Argument(help="What to list.")],
    folder: Annotated[
        Path | None, typer.Option(help="Where runs are looked for; default: $INTERP_RUNS, else ./runs.")
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """List models, runs, probes, finders or papers."""
    from interp.cli.output import print_json, print_rows
    from interp.runs.places import runs_dir

    rows = _LISTS[what]() if what != What.runs else _runs(folder or runs_dir())
    if json:
        print_json(rows)
    elif rows:
        print_rows([{name: value for name, value in row.items() if name != "settings"} for row in rows], widest=72)
        for row in rows:
            for name, told in row.get("settings", {}).items():
                owner = f"{row['finder']} --set" if "finder" in row else f"{row['probe']} --probe-set"
                typer.echo(f"{owner} {name}: {told}")
    else:
        typer.echo(f"no {what.value}", err=True)


def _models() -> list[dict[str, Any]]:
    from interp.models.catalog import entries
    from interp.models.offline import on_this_machine

    return [
        {
            "alias": entry.alias,
            "hub_id": entry.hub_id,
            "family": entry.family,
            "architecture": entry.architecture,
            "params": entry.params,
            "here": on_this_machine(entry),
            "packaged": entry.packaged,
            "note": entry.note,
        }
        for entry in entries()
    ]


def _probes() -> list[dict[str, Any]]:
    from interp.registry import PROBES
    from interp.runs.settings import describe_probe

    probes = {name: PROBES.get(name) for name in PROBES.names()}
    return [{"probe": name, "help": one.help, "settings": describe_probe(one)} for name, one in probes.items()]


def _finders() -> list[dict[str, Any]]:
    from interp.registry import FINDERS
    from interp.runs.settings import describe

    listed = []
    for name in FINDERS.names():
        finder = FINDERS.get(name)
        listed.append({"finder": name, "help": _first_line(finder), "settings": describe(finder.config_type)})
    return listed


def _papers() -> list[dict[str, Any]]:
    from interp.registry import PAPERS

    papers = {name: PAPERS.get(name) for name in PAPERS.names()}
    return [{"paper": name, "claims": len(one.claims), "citation": one.citation} for name, one in papers.items()]


_LISTS = {What.models: _models, What.probes: _probes, What.finders: _finders, What.papers: _papers}


def _first_line(finder: Any) -> str:
    """The title of the module a finder lives in (STYLE: the module docstring is the method)."""
    import sys

    told = getattr(sys.modules.get(type(finder).__module__), "__doc__", None) or type(finder).__doc__ or ""
    return told.strip().partition("\n")[0]


def _runs(folder: Path) -> list[dict[str, Any]]:
    from interp.runs.store import RUN_FILE, RunFolder, RunFolderError

    listed = []
    for path in sorted(folder.glob(f"*/{RUN_FILE}")):
        row: dict[str, Any] = {"run": str(path.parent)}
        try:
            record = RunFolder(path.parent).read_json() or {}
            provenance = record.get("provenance") or {}
            row |= {
                "status": record.get("status"),
                "finder": provenance.get("finder"),
                "model": (provenance.get("model") or {}).get("name"),
                "prompts": len(record.get("prompts") or []),
                "rows": (record.get("findings") or {}).get("rows"),
                "started": provenance.get("started"),
                "verdict": (record.get("findings") or {}).get("verdict"),
            }
        except (RunFolderError, AttributeError, TypeError):
            row["status"] = "damaged"
        listed.append(row)
    return listed
