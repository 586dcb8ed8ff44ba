"""Options that several commands share, and completions for names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass
class _State:
    debug: bool = False


state = _State()


def _set_debug(wanted: bool) -> bool:
    state.debug = state.debug or wanted
    return wanted


def _finders(incomplete: str) -> list[str]:
    from interp.registry import FINDERS

    return [name for name in FINDERS.names() if name.startswith(incomplete)]


def _probes(incomplete: str) -> list[str]:
    from interp.registry import PROBES

    return [name for name in PROBES.names() if name.startswith(incomplete)]


def _models(incomplete: str) -> list[str]:
    from interp.models.catalog import entries

    return [entry.alias for entry in entries() if entry.alias.startswith(incomplete)]


Debug = Annotated[
    bool,
    typer.Option(
        "--debug", help="Show the traceback of an error.", callback=_set_debug, is_eager=True, envvar="INTERP_DEBUG"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.", envvar="INTERP_QUIET")]
Find = Annotated[
    str,
    typer.Option(
        "--find", help="What to look for: a finder (interp ls finders).", autocompletion=_finders, envvar="INTERP_FIND"
    ),
]
Probe = Annotated[
    str | None,
    typer.Option("--probe", help="Prompts of a registered probe (interp ls probes).", autocompletion=_probes),
]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        help="Alias, hub id[@revision], folder, .gguf file or packaged model (interp ls models).",
        autocompletion=_models,
        envvar="INTERP_MODEL",
    ),
]
Packaged = Annotated[str, typer.Argument(help="A packaged model, such as smollm2-135m.")]
RunPath = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder, or the name of one in $INTERP_RUNS (else ./runs).")
]
