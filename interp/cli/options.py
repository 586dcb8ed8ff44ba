"""Options that several commands share, and completions for names."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.errors import UsageError


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
ProbeSet = Annotated[
    list[str] | None,
    typer.Option(
        "--probe-set", metavar="KEY=VALUE", help="A setting of the probe; may be repeated (interp ls probes)."
    ),
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


class Engine(str, enum.Enum):
    """What takes attention statistics."""

    auto = "auto"
    blocked = "blocked"
    fused = "fused"


class Bos(str, enum.Enum):
    """Whether a BOS token is put at position 0."""

    auto = "auto"
    add = "add"
    none = "none"


# What scan, and every command that works like it, takes.
Text = Annotated[list[str] | None, typer.Option(help="A text to scan; may be repeated.")]
TextFile = Annotated[
    list[Path] | None, typer.Option("--text-file", metavar="FILE ...", help="UTF-8 text files, one prompt each.")
]
MoreFiles = Annotated[
    list[Path] | None, typer.Argument(metavar="FILE", help="More files after --text-file FILE.", show_default=False)
]
Prompts = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.jsonl",
        help="One JSON object a line: text and optionally name; for finders on needles: context, answer, question; on "
        "pairs: clean, corrupt, answer, wrong.",
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        help="Cut prompts to so many tokens; default: the finder's, for most 512.",
        envvar="INTERP_MAX_LENGTH",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(help="Only so many prompts: the first, or a balanced part of needle's grid.", envvar="INTERP_LIMIT"),
]
Generate = Annotated[
    int | None,
    typer.Option(
        help="Let the model continue each prompt by at most so many tokens, and scan prompt and response.",
        envvar="INTERP_GENERATE",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Run folder; default: <finder>-<model>-<key> in $INTERP_RUNS, else in ./runs.",
        envvar="INTERP_OUT",
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the finder; may be repeated.")
]
Seed = Annotated[int, typer.Option(help="For probes and finders that draw.", envvar="INTERP_SEED")]
KeepArrays = Annotated[
    int | None,
    typer.Option(
        help="Keep per-position arrays of so many prompts; default: the finder's.", envvar="INTERP_KEEP_ARRAYS"
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Discard what an earlier run left in the folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda[:i] or mps.", envvar="INTERP_DEVICE")]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="float32, bfloat16, float16 or auto (as stored); default: float32 on the CPU, auto elsewhere.",
        envvar="INTERP_DTYPE",
    ),
]
DeviceMap = Annotated[
    str | None, typer.Option(help="auto spreads a model over several GPUs.", envvar="INTERP_DEVICE_MAP")
]
BosPolicy = Annotated[Bos, typer.Option(help="Put a BOS token at position 0.", envvar="INTERP_BOS")]
Chat = Annotated[bool, typer.Option("--chat", help="Apply the model's chat template.", envvar="INTERP_CHAT")]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Keep within 8GB, 0.5GiB, 800MB, ...; refused where that cannot be. Default: what is free.",
        envvar="INTERP_MEMORY",
        show_default=False,
    ),
]
EngineName = Annotated[
    Engine,
    typer.Option(
        "--engine",
        help="What takes attention statistics: blocks of rows, or fused kernels; auto picks by device and length.",
        envvar="INTERP_ENGINE",
    ),
]
AllowPickle = Annotated[bool, typer.Option("--allow-pickle", help="Also load pickled weights; they can run code.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the Python code a model repository brings.")
]


def texts_given(texts: list[str] | None) -> Any:
    """``--text``, as `interp.scan` takes it."""
    if not texts:
        return None
    return texts[0] if len(texts) == 1 else texts


def files_given(first: list[Path] | None, more: list[Path] | None) -> list[Path] | None:
    """``--text-file A B C``, as a shell expands ``*.txt``: what follows the option's own value comes as arguments."""
    if more and not first:
        raise UsageError(f"unexpected argument {str(more[0])!r}; text files go after --text-file")
    return [*first, *(more or [])] if first else None


def settings_given(pairs: list[str] | None, option: str = "--set") -> dict[str, str]:
    """``--set KEY=VALUE ...`` as a dict; ``--probe-set`` alike."""
    from interp.runs.settings import parse_pairs

    return parse_pairs(pairs or [], option)


def probe_set_given(pairs: list[str] | None) -> dict[str, str] | None:
    """``--probe-set KEY=VALUE ...`` as a dict; None when it is not given."""
    return settings_given(pairs, "--probe-set") if pairs else None


def as_text(value: Any) -> str:
    """A setting as ``--set`` takes it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
