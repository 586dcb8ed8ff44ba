"""``interp sweep``."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import options
from interp.errors import UsageError

FAILED = 1
VERIFICATION_FAILED = 3


class EngineName(str, enum.Enum):
    """What runs the units."""

    pool = "pool"
    ray = "ray"
    serial = "serial"


def sweep(
    spec: Annotated[
        Path | None, typer.Argument(metavar="SWEEP.yaml", help="Models, finders, probes, settings (docs/sweeps.md).")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B,...", help="Instead of a file: models, as scan --model takes them; may be repeated."),
    ] = None,
    find: Annotated[
        list[str] | None, typer.Option(metavar="A,B,...", help="Finders (interp ls finders). Default: sinks.")
    ] = None,
    probe: Annotated[
        list[str] | None, typer.Option(metavar="A,B,...", help="Probes; default: each finder's own.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="[FINDER.]KEY=VALUE", help="A setting of all finders, or of one."),
    ] = None,
    max_length: Annotated[int | None, typer.Option(help="Cut prompts to so many tokens.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many prompts.")] = None,
    seed: Annotated[int | None, typer.Option(help="For probes and finders that draw.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda[:i] or mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto (as stored).")] = None,
    bos: Annotated[options.Bos | None, typer.Option(help="Put a BOS token at position 0.", envvar="INTERP_BOS")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The sweep's folder; default: sweep-<key> in $INTERP_RUNS, else in ./runs.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes at the most; default: as cores, GPUs and memory allow.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="16GB", help="For all workers together; default: most of what is free.")
    ] = None,
    retries: Annotated[int, typer.Option(help="Further attempts at a unit whose process died.")] = 2,
    engine: Annotated[
        EngineName, typer.Option(help="Processes here, a Ray cluster, or this process alone, one by one.")
    ] = EngineName.pool,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster, such as auto or host:6379; default: one for this sweep.")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the units with memory and time; run nothing.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Discard what earlier sweeps found of these units.")] = False,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    debug: options.Debug = False,
) -> None:
    """Scan many models for many things, in worker processes or on a Ray cluster: one folder, one table, one page.

    The same command again runs only what has not finished. Ends with 1 when a unit failed, with 3 when a causal check
    did.
    """
    from interp.sweeps.run import sweep as run_sweep

    keys = _keys(models, find, probe, set_, max_length=max_length, limit=limit, seed=seed, device=device, dtype=dtype,
                 bos=None if bos is None else bos.value)  # fmt: skip
    if spec is not None and keys:
        raise UsageError(f"SWEEP.yaml given together with {', '.join(map(_option, keys))}; write them into the file")
    if spec is None and not models:
        raise UsageError("name a sweep's file (interp sweep SWEEP.yaml), or --models A,B,...")
    runs_code = {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
    if dry_run:
        _dry_run(spec, keys, runs_code, out, workers, memory, engine.value, json)
        return
    try:
        result = run_sweep(spec, out=out, workers=workers, memory=memory, retries=retries, engine=engine.value,
                           address=address, fresh=fresh, progress=not quiet, **runs_code, **keys)  # fmt: skip
    except KeyboardInterrupt:
        from interp.cli.output import warn

        warn("interrupted; resume with the same command")
        raise typer.Exit(130) from None
    _tell(result, json)
    if result.failed:
        raise typer.Exit(FAILED)
    if result.checks_failed:
        raise typer.Exit(VERIFICATION_FAILED)


def _keys(
    models: list[str] | None, find: list[str] | None, probe: list[str] | None, pairs: list[str] | None, **plain: Any
) -> dict[str, Any]:
    """What a sweep's file would hold, from the options."""
    keys: dict[str, Any] = {name: value for name, value in plain.items() if value is not None}
    if models:
        keys["models"] = _split(models)
    if probe:
        keys["probes"] = _split(probe)
    if find or pairs or models:
        keys["finders"] = _finders(_split(find or ["sinks"]), options.settings_given(pairs))
    return keys


def _split(given: Sequence[str]) -> list[str]:
    return [name.strip() for one in given for name in one.split(",") if name.strip()]


def _finders(names: Sequence[str], settings: dict[str, str]) -> list[dict[str, Any]]:
    """Entries of finders, with the settings that are theirs."""
    for key in settings:
        owner, dot, _ = key.partition(".")
        if dot and owner not in names:
            raise UsageError(f"--set {key}: {owner!r} is none of the finders of this sweep ({', '.join(names)})")
    return [
        {
            "name": name,
            "set": {
                key.removeprefix(f"{name}."): value
                for key, value in settings.items()
                if "." not in key or key.startswith(f"{name}.")
            },
        }
        for name in names
    ]


def _option(key: str) -> str:
    return {"finders": "--find or --set", "probes": "--probe"}.get(key, f"--{key.replace('_', '-')}")


def _dry_run(
    spec: Any, keys: Any, runs_code: Any, out: Any, workers: Any, memory: Any, engine: str, json: bool
) -> None:
    from interp.cli.output import print_json, print_rows, say
    from interp.sweeps import sizing
    from interp.sweeps.folder import SweepFolder
    from interp.sweeps.run import check_how, default_folder, estimated, units_of

    units = units_of(spec, runs_code, **keys)
    check_how(workers, 0, engine, None)
    folder = SweepFolder(default_folder(units) if out is None else out)
    folder.inspect()
    budget = sizing.memory(memory)
    workers = 1 if engine == "serial" else workers
    needs = estimated(units, engine, budget, workers)
    size = sizing.size_for(units, needs, budget, workers, engine)
    rows = [
        {
            "unit": unit.told,
            "memory_gb": None if need.bytes is None else round(need.bytes / 1e9, 2),
            "seconds": None if need.seconds is None else round(need.seconds, 1),
            "device": need.device or None,
            "note": need.why or ("more than there is" if need.bytes is not None and need.bytes > budget else None),
        }
        for unit, need in zip(units, needs, strict=True)
    ]
    if json:
        sized = {"workers": size.workers, "threads": size.threads, "memory_bytes": budget}
        print_json({"units": rows, **sized, "folder": str(folder.path)})
        return
    print_rows(rows, widest=72)
    say()
    say(f"{len(units)} units, {size.workers} workers of {size.threads} threads within {budget / 1e9:.1f} GB")
    say(f"sweep folder: {folder.path}")


def _tell(result: Any, json: bool) -> None:
    from interp.cli.output import print_json, print_rows, say, warn
    from interp.runs.store import plain
    from interp.sweeps.folder import REPORT_FILE, RESULTS_FILE

    rows = [
        {**{key: unit.get(key) for key in ("model", "finder", "source")}, **_settings(unit),
         **{key: unit.get(key) for key in ("status", "rows", "check", "seconds")}}
        for unit in result.record["units"]
    ]  # fmt: skip
    if json:
        told = {"units": result.record["units"], "folder": str(result.folder), "failed": result.failed}
        print_json(plain({**told, "checks_failed": result.checks_failed}))
    else:
        print_rows(rows)
        say()
        say(f"table: {result.folder / RESULTS_FILE}")
        if (result.folder / REPORT_FILE).is_file():
            say(f"report: {result.folder / REPORT_FILE}")
    for folder, why in result.failed.items():
        warn(f"failed: {folder}: {why}")
    for folder in result.checks_failed:
        warn(f"the causal check failed: {folder}")


def _settings(unit: Any) -> dict[str, Any]:
    effect = unit["effect"]
    return {key: str(value) for part in ("crossed", "set", "probe_set") for key, value in effect[part].items()}
