"""``interp scan``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import options
from interp.errors import UsageError

VERIFICATION_FAILED = 3


class Bos(str, enum.Enum):
    """Whether a BOS token is put at position 0."""

    auto = "auto"
    add = "add"
    none = "none"


def scan(
    model: options.ModelName,
    find: options.Find = "sinks",
    text: Annotated[list[str] | None, typer.Option(help="A text to scan; may be repeated.")] = None,
    text_file: Annotated[
        list[Path] | None, typer.Option("--text-file", metavar="FILE ...", help="UTF-8 text files, one prompt each.")
    ] = None,
    more_files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="More files after --text-file FILE.", show_default=False)
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="One JSON object a line, with text and optionally name.")
    ] = None,
    probe: options.Probe = None,
    max_length: Annotated[int, typer.Option(help="Cut prompts to so many tokens.", envvar="INTERP_MAX_LENGTH")] = 512,
    limit: Annotated[int | None, typer.Option(help="Only the first so many prompts.", envvar="INTERP_LIMIT")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder; default: <finder>-<model>-<key> in $INTERP_RUNS, else in ./runs.",
            envvar="INTERP_OUT",
            show_default=False,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the finder; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="For probes and finders that draw.", envvar="INTERP_SEED")] = 0,
    keep_arrays: Annotated[
        int | None,
        typer.Option(
            help="Keep per-position arrays of so many prompts; default: the finder's.", envvar="INTERP_KEEP_ARRAYS"
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show prompts, memory and time; write nothing.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Discard what an earlier run left in the folder.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda[:i] or mps.", envvar="INTERP_DEVICE")] = "auto",
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32, bfloat16, float16 or auto (as stored); default: float32 on the CPU, auto elsewhere.",
            envvar="INTERP_DTYPE",
        ),
    ] = None,
    device_map: Annotated[
        str | None, typer.Option(help="auto spreads a model over several GPUs.", envvar="INTERP_DEVICE_MAP")
    ] = None,
    bos: Annotated[Bos, typer.Option(help="Put a BOS token at position 0.", envvar="INTERP_BOS")] = Bos.auto,
    chat: Annotated[
        bool, typer.Option("--chat", help="Apply the model's chat template.", envvar="INTERP_CHAT")
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Also load pickled weights; they can run code.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the Python code a model repository brings.")
    ] = False,
    debug: options.Debug = False,
) -> None:
    """Scan a model for something, check it by intervening, and write a run folder with a report.

    The same command again goes on where a killed one was.
    """
    request = _request(
        find=find,
        texts=_texts(text),
        text_files=_files(text_file, more_files),
        prompts=prompts,
        probe=probe,
        max_length=max_length,
        limit=limit,
        config=_settings(set_),
        seed=seed,
        keep_arrays=keep_arrays,
        device=device,
        dtype=dtype,
        device_map=device_map,
        bos=bos.value,
        chat=chat,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
    )
    if dry_run:
        _dry_run(model, request, out, json)
    else:
        _scan(model, request, out, fresh, json, quiet)


def _request(**options_given: Any) -> dict[str, Any]:
    """Keyword arguments for `interp.runs.scan.plan` and `scan`, checked before anything is loaded."""
    from interp.runs.plan import plan

    plan(**options_given)
    return options_given


def _texts(texts: list[str] | None) -> Any:
    if not texts:
        return None
    return texts[0] if len(texts) == 1 else texts


def _files(first: list[Path] | None, more: list[Path] | None) -> list[Path] | None:
    """``--text-file A B C``, as a shell expands ``*.txt``: what follows the option's own value comes as arguments."""
    if more and not first:
        raise UsageError(f"unexpected argument {str(more[0])!r}; text files go after --text-file")
    return [*first, *(more or [])] if first else None


def _settings(pairs: list[str] | None) -> dict[str, str]:
    from interp.runs.settings import parse_pairs

    return parse_pairs(pairs or [])


def _dry_run(model: str, request: dict[str, Any], out: Path | None, json: bool) -> None:
    from interp.cli.output import print_estimate, print_json
    from interp.runs.estimate import estimate

    estimated = estimate(model, out=out, **request)
    if json:
        print_json(estimated.as_dict())
    else:
        print_estimate(estimated)


def _scan(model: str, request: dict[str, Any], out: Path | None, fresh: bool, json: bool, quiet: bool) -> None:
    from interp.cli.output import print_json, print_result, warn
    from interp.runs.scan import scan as run_scan
    from interp.runs.store import plain

    try:
        result = run_scan(model, out=out, fresh=fresh, progress=not quiet, **request)
    except KeyboardInterrupt:
        warn("interrupted; resume with the same command")
        raise typer.Exit(130) from None
    if json:
        print_json(plain(result.findings.records()))
    else:
        print_result(result)
    checked = result.findings.verification
    if checked is not None and checked.verdict == "failed":
        warn(f"the causal check failed: {checked.how}")
        raise typer.Exit(VERIFICATION_FAILED)
