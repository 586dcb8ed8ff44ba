"""``interp scan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import options

VERIFICATION_FAILED = 3


def scan(
    model: options.ModelName,
    find: options.Find = "sinks",
    text: options.Text = None,
    text_file: options.TextFile = None,
    more_files: options.MoreFiles = None,
    prompts: options.Prompts = None,
    probe: options.Probe = None,
    probe_set: options.ProbeSet = None,
    max_length: options.MaxLength = None,
    limit: options.Limit = None,
    generate: options.Generate = None,
    out: options.Out = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
    keep_arrays: options.KeepArrays = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show prompts, memory and time; write nothing.")] = False,
    fresh: options.Fresh = False,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    device_map: options.DeviceMap = None,
    bos: options.BosPolicy = options.Bos.auto,
    chat: options.Chat = False,
    memory: options.Memory = None,
    engine: options.EngineName = options.Engine.auto,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    debug: options.Debug = False,
) -> None:
    """Scan a model for something, check it by intervening, and write a run folder with a report.

    The same command again goes on where a killed one was.
    """
    request = _request(
        find=find,
        texts=options.texts_given(text),
        text_files=options.files_given(text_file, more_files),
        prompts=prompts,
        probe=probe,
        probe_set=options.probe_set_given(probe_set),
        max_length=max_length,
        limit=limit,
        generate=generate,
        config=options.settings_given(set_),
        seed=seed,
        keep_arrays=keep_arrays,
        device=device,
        dtype=dtype,
        device_map=device_map,
        bos=bos.value,
        chat=chat,
        memory=memory,
        engine=engine.value,
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
