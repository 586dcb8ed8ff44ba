"""``interp ablate``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from interp.cli import options
from interp.cli.scan import scan
from interp.errors import UsageError


def ablate(
    model: options.ModelName,
    how: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="act, remove-sinks, uniform, streaming, cut: edits of attention; zero, mean, resample: of heads' "
            "outputs (resample: those of the corrupted prompt); knockout:FROM->TO: attention from positions FROM to "
            "positions TO cut, such as 'knockout:end->answer'.",
        ),
    ] = "act",
    heads: Annotated[
        str | None, typer.Option(metavar="L.H,...", help="These heads (3.1,5.*); default: chosen by what they do.")
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN[:CLASS]",
            help="The heads a finished run found: a circuit or a class of it, retrieval heads, ...",
        ),
    ] = None,
    position: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="zero, mean, resample: at this named position or role only (end, S2, ...)."),
    ] = None,
    select: Annotated[
        int | None, typer.Option(help="Choose the best so many; default: all whose interval says so.")
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(help="Try so many heads, those the edit changes most; 0 = all. Default: 16.")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Share of a sink's mass that stays. Default: 0.4.")] = None,
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
    """Edit heads (ACT, sink removal, zero, mean, resample, knockout) and measure what it does on held-out prompts.

    Without --heads or --from, half of the prompts choose the heads by what the edit of each alone does; the figure is
    that of the other half. Of pairs (--probe ioi, ...) it is the logit difference, else the loss, beside that of
    random heads. The same as scan --find ablation with these settings.
    """
    if heads is not None and select is not None:
        raise UsageError("--heads and --select given together: name the heads, or have them selected")
    if heads is not None and not heads.strip(" ,"):
        raise UsageError("--heads is empty; name heads such as 9.1,9.6, or leave it out to have them selected")
    given: dict[str, Any] = {
        "how": how,
        "heads": heads,
        "position": position,
        "select": select,
        "candidates": candidates,
        "beta": beta,
    }
    if from_ is not None:
        from interp.ablation.origin import heads_from

        if heads is not None or select is not None:
            raise UsageError("--from given with --heads or --select; take the run's heads, name them, or select them")
        given |= {name: options.as_text(value) for name, value in heads_from(from_).settings().items()}
    scan(
        model=model,
        find="ablation",
        text=text,
        text_file=text_file,
        more_files=more_files,
        prompts=prompts,
        probe=probe,
        probe_set=probe_set,
        max_length=max_length,
        limit=limit,
        generate=generate,
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
        chat=chat,
        memory=memory,
        engine=engine,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
    )
