"""``interp repair``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import options
from interp.cli.scan import scan
from interp.errors import UsageError


class Edit(str, enum.Enum):
    """What is done to the heads."""

    all = "all"
    oracle = "oracle"
    inhibit = "inhibit"
    point = "point"
    donor = "donor"
    scale = "scale"


def repair(
    model: options.ModelName,
    edit: Annotated[
        Edit,
        typer.Option(help="oracle is told the right answer (an upper bound, no fix); the others can do without it."),
    ] = Edit.all,
    heads: Annotated[
        str | None,
        typer.Option(metavar="L.H,...", help="Edit these heads (13.3,11.3); default: chosen on half of the prompts."),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="A circuit run: its inhibition heads and negative movers."),
    ] = None,
    text: options.Text = None,
    text_file: options.TextFile = None,
    more_files: options.MoreFiles = None,
    prompts: options.Prompts = None,
    probe: options.Probe = None,
    probe_set: options.ProbeSet = None,
    max_length: options.MaxLength = None,
    limit: options.Limit = None,
    out: options.Out = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show prompts, memory and time; write nothing.")] = False,
    fresh: options.Fresh = False,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    device_map: options.DeviceMap = None,
    bos: options.BosPolicy = options.Bos.auto,
    memory: options.Memory = None,
    engine: options.EngineName = options.Engine.auto,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    debug: options.Debug = False,
) -> None:
    """Edit what the last token attends to in a few heads, and measure whether a task comes right on held-out prompts.

    Heads, factors and pointers are chosen on half of the prompts (default probe: colored-objects); the figures reported
    are those of the other half. The published oracle edit is told the right answer; the others are not. The same as
    scan --find repair with these settings.
    """
    if heads is not None and from_ is not None:
        raise UsageError("--heads and --from given together: name the heads, or take them from a run")
    if heads is not None and not heads.strip(" ,"):
        raise UsageError("--heads is empty; name heads such as 13.3,11.3, or leave it out to have them chosen")
    given: dict[str, Any] = {"edit": edit.value, "heads": heads}
    if from_ is not None:
        from interp.repairs.calls import settings_from

        given |= {name: options.as_text(value) for name, value in settings_from(from_).items()}
    scan(
        model=model,
        find="repair",
        text=text,
        text_file=text_file,
        more_files=more_files,
        prompts=prompts,
        probe=probe,
        probe_set=probe_set,
        max_length=max_length,
        limit=limit,
        out=out,
        set_=[*(set_ or []), *(f"{name}={value}" for name, value in given.items() if value is not None)],
        seed=seed,
        json=json,
        quiet=quiet,
        dry_run=dry_run,
        fresh=fresh,
        device=device,
        dtype=dtype,
        device_map=device_map,
        bos=bos,
        memory=memory,
        engine=engine,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
    )
